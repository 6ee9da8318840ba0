//! Generates the stubs from `proto/`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["trine/v1/licensing.proto", "trine/v1/cluster.proto", "trine/peer/v1/peer.proto"];
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
