//! Finding the server: --host, TRINE_HOST, CODEMETER_HOST, the context; lists
//! and bare hosts.

use std::net::TcpListener;

use trine_cli::devcluster::Server;

use super::cluster::{Cluster, shared};

fn address(cluster: &Cluster, server: Server) -> String {
    format!("127.0.0.1:{}", cluster.servers().ports().client(server))
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

#[test]
fn a_host_list_passes_over_servers_that_are_not_there() {
    let cluster = shared();
    cluster.license("hosts", 10);
    let list = format!("{},{}", nowhere(), address(cluster, Server::Balancer(2)));
    cluster.caller().json(&["--host", &list, "acquire", "hosts"]);
    // No balancer is needed at all.
    let nodes = Server::NODES.map(|node| address(cluster, node)).join(",");
    cluster.caller().json(&["--host", &nodes, "acquire", "hosts"]);
    for node in Server::NODES {
        cluster.caller().json(&["--host", &address(cluster, node), "acquire", "hosts"]);
    }
}

#[test]
fn the_flag_comes_before_the_environment_and_ours_before_theirs() {
    let cluster = shared();
    cluster.license("order", 10);
    let (here, nowhere) = (address(cluster, Server::Balancer(1)), nowhere());
    let take = ["acquire", "order"];
    cluster.caller().with("CODEMETER_HOST", &here).json(&take);
    cluster.caller().with("CODEMETER_HOST", &nowhere).refused(4, &take);
    let both = |ours: &str, theirs: &str| {
        cluster.caller().with("TRINE_HOST", ours).with("CODEMETER_HOST", theirs)
    };
    both(&here, &nowhere).json(&take);
    both(&nowhere, &here).refused(4, &take);
    both(&nowhere, &nowhere).json(&["--host", &here, "acquire", "order"]);
}

#[test]
fn nobody_there_is_exit_code_4_and_names_who_was_asked() {
    let cluster = shared();
    let host = nowhere();
    let refusal = cluster.caller().refused(4, &["--host", &host, "acquire", "demo"]);
    assert_eq!(refusal.reason, "UNREACHABLE");
    refusal.says(&[&host]);
    let refusal = cluster.caller().refused(4, &["--host", &host, "cluster", "status"]);
    refusal.says(&[&host]);
}

/// An address of this machine on which no test and no cluster listens.
#[test]
fn a_bare_host_means_the_default_port() {
    let refusal = shared().caller().refused(4, &["--host", "127.99.0.1", "acquire", "demo"]);
    refusal.says(&["127.99.0.1:22450"]);
}

#[test]
fn a_host_that_is_none_is_a_usage_error() {
    for host in ["", "a:b", "http://a", ","] {
        shared().caller().refused(2, &["--host", host, "acquire", "demo"]);
    }
}
