//! Which servers to ask and as whom: flags, then environment, then the context file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use node::config::place;
use serde::{Deserialize, Serialize};
use trine_client::Endpoint;

use crate::args::Global;
use crate::failure::Failure;
use crate::files;

/// What a command does, and so in which role it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Takes, renews and releases seats.
    Application,
    /// Runs the cluster.
    Operator,
}

/// A context file, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// The servers that commands ask, balancers or nodes: `host` or `host:port`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The nodes themselves, for `trine cluster status` without a quorum.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The cluster CA's certificate.
    pub ca: Option<PathBuf>,
    /// An application's bearer token.
    pub token_file: Option<PathBuf>,
    /// The directory of the development cluster that this was written for.
    pub development: Option<PathBuf>,
    /// Who asks for seats.
    pub application: Option<Pair>,
    /// Who runs the cluster.
    pub operator: Option<Pair>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// How a command proves who it speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By certificate.
    Certificate(Pair),
    /// By the bearer token in this file.
    TokenFile(PathBuf),
}

/// Where a command goes, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The servers to ask, in order of preference.
    pub hosts: Vec<Endpoint>,
    /// The nodes themselves, as far as anybody named them.
    pub nodes: Vec<Endpoint>,
    /// The cluster CA's certificate.
    pub ca: PathBuf,
    /// Who asks.
    pub credential: Credential,
    /// The development cluster behind it, if it is one.
    pub development: Option<PathBuf>,
}

/// Looks a variable up; an empty one counts as absent.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Target {
    /// Finds the servers and the identity for a command.
    pub fn resolve(global: &Global, purpose: Purpose) -> Result<Self, Failure> {
        Self::resolve_in(global, purpose, &environment)
    }

    fn resolve_in(
        global: &Global,
        purpose: Purpose,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let mut context = read_context(global, environment)?;
        if global.host.is_some() || SERVERS.into_iter().any(|name| environment(name).is_some()) {
            // Other servers than the context's, so other nodes too.
            (context.nodes, context.development) = (Vec::new(), None);
        }
        if environment("TRINE_CA").is_some() {
            // Another cluster, which the context's identities are unknown to.
            (context.application, context.operator, context.token_file) = (None, None, None);
        }
        let path = |name: &str| environment(name).map(PathBuf::from);
        let ca = path("TRINE_CA").or_else(|| context.ca.clone()).ok_or_else(|| {
            Failure::usage("no cluster CA is named, so no server can be believed")
                .next(HOW_TO_CONNECT)
        })?;
        let hosts = hosts(global, &context, environment)?;
        let nodes = match &context.nodes[..] {
            [] => hosts.clone(),
            nodes => endpoints("the context's nodes", &nodes.join(","))?,
        };
        Ok(Self {
            hosts,
            nodes,
            ca,
            credential: credential(&context, purpose, environment)?,
            development: context.development,
        })
    }
}

/// The variables that name servers, the first that is set counts.
const SERVERS: [&str; 2] = ["TRINE_HOST", "CODEMETER_HOST"];

const HOW_TO_CONNECT: &str = "run `trine up` for a development cluster, or set TRINE_HOST, TRINE_CA, \
     and TRINE_CERT with TRINE_KEY or TRINE_TOKEN_FILE";

fn hosts(
    global: &Global,
    context: &ContextFile,
    environment: Environment<'_>,
) -> Result<Vec<Endpoint>, Failure> {
    if let Some(hosts) = &global.host {
        return endpoints("--host", hosts);
    }
    for name in SERVERS {
        if let Some(hosts) = environment(name) {
            return endpoints(name, &hosts.to_string_lossy());
        }
    }
    if context.hosts.is_empty() {
        return Err(Failure::usage("no server is named").next(HOW_TO_CONNECT));
    }
    endpoints("the context's hosts", &context.hosts.join(","))
}

fn endpoints(source: &str, list: &str) -> Result<Vec<Endpoint>, Failure> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    Endpoint::parse_list(list).map_err(|error| Failure::usage(format!("{source}: {error}")))
}

fn credential(
    context: &ContextFile,
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Credential, Failure> {
    let path = |name: &str| environment(name).map(PathBuf::from);
    match (path("TRINE_CERT"), path("TRINE_KEY"), path("TRINE_TOKEN_FILE")) {
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            return Err(Failure::usage("both TRINE_CERT and TRINE_TOKEN_FILE are set")
                .next("say who you are in one way, and unset the other"));
        }
        (Some(cert), Some(key), None) => return Ok(Credential::Certificate(Pair { cert, key })),
        (Some(_), None, None) | (None, Some(_), None) => {
            return Err(Failure::usage("TRINE_CERT and TRINE_KEY belong together; one is missing")
                .next("set both to PEM files, or set TRINE_TOKEN_FILE alone"));
        }
        (None, None, Some(token)) => return Ok(Credential::TokenFile(token)),
        (None, None, None) => {}
    }
    let (certificate, role) = match purpose {
        Purpose::Application => (&context.application, "application"),
        Purpose::Operator => (&context.operator, "operator"),
    };
    let token = context.token_file.clone().filter(|_| purpose == Purpose::Application);
    match (certificate, token) {
        (Some(pair), _) => Ok(Credential::Certificate(pair.clone())),
        (None, Some(token)) => Ok(Credential::TokenFile(token)),
        (None, None) => Err(Failure::not_allowed(
            "NO_IDENTITY",
            format!("this needs an {role}'s identity and none is set"),
        )
        .next(HOW_TO_CONNECT)),
    }
}

/// The context file in force; an empty one when none was named and none is in
/// the usual place.
fn read_context(global: &Global, environment: Environment<'_>) -> Result<ContextFile, Failure> {
    let named = global.context.clone().or_else(|| environment("TRINE_CONTEXT").map(PathBuf::from));
    if let Some(path) = named {
        return load(&path);
    }
    match default_path(environment) {
        Some(path) if path.exists() => load(&path),
        _ => Ok(ContextFile::default()),
    }
}

/// Where the current context is kept: `trine/context.toml` in the user's
/// configuration directory. `None` when the user has none.
pub fn default_path(environment: Environment<'_>) -> Option<PathBuf> {
    let home = || environment("HOME").map(|home| Path::new(&home).join(".config"));
    let config = environment("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
    Some(config.join("trine").join("context.toml"))
}

/// Reads a context file. Relative paths in it start at its folder.
pub fn load(path: &Path) -> Result<ContextFile, Failure> {
    let bytes = files::read("context file", path, 1 << 20)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut context: ContextFile = toml::from_str(&text).map_err(|error| {
        Failure::usage(format!("the context file {} is not readable: {error}", path.display()))
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let paths = [&mut context.ca, &mut context.token_file].into_iter().flatten();
    let pairs = [&mut context.application, &mut context.operator].into_iter().flatten();
    for relative in paths.chain(pairs.flat_map(|pair| [&mut pair.cert, &mut pair.key])) {
        *relative = place(&base.join(&relative));
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::exit::Exit;

    const CONTEXT: &str = r#"
hosts = ["127.0.0.1:1", "127.0.0.1:2"]
ca = "pki/ca.pem"
application = { cert = "pki/app.pem", key = "pki/app.key" }
"#;

    fn global(context: Option<&Path>, host: Option<&str>) -> Global {
        Global { host: host.map(str::to_owned), context: context.map(Path::to_owned), json: false }
    }

    fn resolve(
        global: &Global,
        purpose: Purpose,
        variables: &[(&str, &str)],
    ) -> Result<Target, Failure> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Target::resolve_in(global, purpose, &|name| variables.get(name).map(OsString::from))
    }

    #[test]
    fn the_flag_beats_the_environment_beats_the_context() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("context.toml");
        std::fs::write(&file, CONTEXT).expect("the context");
        let ports = |host: Option<&str>, variables: &[(&str, &str)]| -> Vec<u16> {
            resolve(&global(Some(&file), host), Purpose::Application, variables)
                .expect("a target")
                .hosts
                .iter()
                .map(Endpoint::port)
                .collect()
        };
        let both = [("TRINE_HOST", "b:4"), ("CODEMETER_HOST", "c:5")];
        assert_eq!(ports(Some("a:3"), &both), [3]);
        assert_eq!(ports(None, &both), [4]);
        assert_eq!(ports(None, &both[1..]), [5]);
        assert_eq!(ports(None, &[]), [1, 2]);
        assert_eq!(ports(Some("a,b:9"), &[]), [wire::CLIENT_PORT, 9]);
    }

    #[test]
    fn paths_in_a_context_start_at_its_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("context.toml");
        std::fs::write(&file, CONTEXT).expect("the context");
        let target = resolve(&global(Some(&file), None), Purpose::Application, &[]);
        let target = target.expect("a target");
        assert_eq!(target.ca, dir.path().join("pki/ca.pem"));
        let pair =
            Pair { cert: dir.path().join("pki/app.pem"), key: dir.path().join("pki/app.key") };
        assert_eq!(target.credential, Credential::Certificate(pair));
    }

    #[test]
    fn servers_named_elsewhere_are_asked_and_not_the_contexts_nodes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("context.toml");
        std::fs::write(&file, CONTEXT).expect("the context");
        let variables = [("TRINE_HOST", "elsewhere:7")];
        let target = resolve(&global(Some(&file), None), Purpose::Application, &variables);
        let target = target.expect("a target");
        assert_eq!(target.nodes, target.hosts);
        assert_eq!(target.development, None);
    }

    #[test]
    fn another_clusters_ca_takes_no_identity_of_the_context() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("context.toml");
        std::fs::write(&file, CONTEXT).expect("the context");
        let variables = [("TRINE_HOST", "elsewhere"), ("TRINE_CA", "ca")];
        let refused = resolve(&global(Some(&file), None), Purpose::Application, &variables);
        assert_eq!(refused.expect_err("no identity").exit(), Exit::NotAllowed);
    }

    #[test]
    fn an_identity_of_the_other_role_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("context.toml");
        std::fs::write(&file, CONTEXT).expect("the context");
        let refused = resolve(&global(Some(&file), None), Purpose::Operator, &[]);
        assert_eq!(refused.expect_err("no operator").exit(), Exit::NotAllowed);
    }

    #[test]
    fn half_a_pair_is_a_mistake() {
        let variables = [("TRINE_HOST", "a"), ("TRINE_CA", "ca"), ("TRINE_CERT", "cert")];
        let refused = resolve(&global(None, None), Purpose::Operator, &variables);
        assert_eq!(refused.expect_err("no key").exit(), Exit::Usage);
    }

    #[test]
    fn nobody_named_is_a_usage_error_that_says_how_to_begin() {
        let refused = resolve(&global(None, None), Purpose::Operator, &[]).expect_err("nothing");
        assert!(refused.to_string().contains("trine up"), "{refused}");
    }
}
