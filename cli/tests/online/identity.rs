//! Who may do what: certificates, tokens, roles, another cluster's CA.

use std::fs;
use std::path::PathBuf;

use super::caller::Caller;
use super::cluster::{Cluster, shared, word};
use super::findings::examined;

fn pki(cluster: &Cluster, file: &str) -> PathBuf {
    cluster.servers().layout().pki().join(file)
}

/// Somebody with this certificate of the development CA.
fn with_certificate(cluster: &Cluster, stem: &str) -> Caller {
    let caller = cluster.caller().with("TRINE_CERT", pki(cluster, &format!("{stem}.pem")));
    caller.with("TRINE_KEY", pki(cluster, &format!("{stem}.key")))
}

#[test]
fn an_application_takes_seats_and_does_not_run_the_cluster() {
    let cluster = shared();
    let license = cluster.license("roles", 1).license;
    let application = with_certificate(cluster, "application-developer");
    application.json(&["acquire", "roles", "--ttl", "10m"]);
    let seat = word(&cluster.held("roles")[0], "seat");
    for words in [
        &["cluster", "status"][..],
        &["cluster", "doctor"],
        &["cluster", "init"],
        &["seats"],
        &["seats", "revoke", &seat],
        &["token", "issue", "mine"],
        &["token", "list"],
        &["token", "revoke", "mine"],
        &["license", "list"],
        &["license", "request", "-o", "stolen.request"],
        &["license", "withdraw-share", &license, "--node", "1", "--yes"],
    ] {
        let refusal = application.refused(5, words);
        assert_eq!(refusal.reason, "WRONG_ROLE", "{words:?}");
        refusal.says(&["operator"]);
    }
    assert!(!application.dir().join("stolen.request").exists());
    assert_eq!(word(&cluster.held("roles")[0], "seat"), seat);
}

#[test]
fn an_operator_runs_the_cluster_and_may_try_a_seat_by_hand() {
    let cluster = shared();
    cluster.license("operators", 1);
    let operator = with_certificate(cluster, "operator-developer");
    operator.json(&["cluster", "status"]);
    operator.json(&["acquire", "operators"]);
}

#[test]
fn a_token_lets_an_application_in_until_it_is_revoked() {
    let cluster = shared();
    cluster.license("by-token", 3);
    let operator = cluster.caller();
    let issued = operator.json(&["token", "issue", "ci-runner", "--days", "30"]);
    let secret = word(&issued, "token");
    let file = operator.dir().join("ci-runner.token");
    // As a shell's redirection leaves it.
    fs::write(&file, format!("{secret}\n")).expect("the token's file");
    let runner = operator.with("TRINE_TOKEN_FILE", &file);

    runner.json(&["acquire", "by-token"]);
    let subject = word(&cluster.held("by-token")[0], "subject");
    assert!(subject.contains("ci-runner"), "{subject}");
    let listed = operator.page(&["token", "list"]);
    assert!(listed.contains("ci-runner"), "{listed}");
    assert!(!listed.contains(&secret), "the list shows a secret");
    assert_eq!(runner.refused(5, &["cluster", "status"]).reason, "WRONG_ROLE");

    // stdout is the token and nothing else, so that it can go into a file.
    let page = operator.page(&["token", "issue", "ci-runner"]);
    assert_eq!(page.lines().count(), 1, "{page}");
    assert_ne!(page.trim(), secret);

    operator.json(&["token", "revoke", "ci-runner"]);
    let nobody = operator.refused(3, &["token", "revoke", "ci-runer"]);
    assert_eq!(nobody.reason, "UNKNOWN_TOKEN");
    nobody.says(&["ci-runer", "trine token list"]);
    let refusal = runner.refused(5, &["acquire", "by-token"]);
    refusal.says(&["token"]);
    assert!(!refusal.text.contains(&secret), "{}", refusal.text);
    assert!(!operator.page(&["token", "list"]).contains("ci-runner"));
    fs::write(&file, "never-issued").expect("the token's file");
    runner.refused(5, &["acquire", "by-token"]);
}

/// A server that another CA vouches for is not believed, whoever asks.
#[test]
fn another_clusters_ca_is_not_believed() {
    let cluster = shared();
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = Caller::new(dir.path());
    stranger.json(&["pki", "init"]);
    stranger.json(&["pki", "issue", "application", "app"]);
    let own = dir.path().join("pki");
    let with_own_ca =
        with_certificate(cluster, "application-developer").with("TRINE_CA", own.join("ca.pem"));
    // Its own certificate is of the right CA, and says so before anything is sent.
    let refusal = with_own_ca.run(&["--json", "acquire", "demo"]);
    assert_ne!(refusal.status.code(), Some(0));

    let all_foreign = cluster
        .caller()
        .with("TRINE_CA", own.join("ca.pem"))
        .with("TRINE_CERT", own.join("application-app.pem"))
        .with("TRINE_KEY", own.join("application-app.key"));
    let refusal = all_foreign.refused(5, &["acquire", "demo"]);
    assert_eq!(refusal.reason, "UNTRUSTED");
    refusal.says(&["CA"]);
    // Whose fault that is the doctor cannot tell, and says both.
    let (code, found) = examined(&all_foreign, &[]);
    assert_eq!(code, 8, "{found:?}");
    assert!(found.iter().all(|(code, _)| code.ends_with("_NOT_TRUSTED")), "{found:?}");

    let foreign_certificate = cluster
        .caller()
        .with("TRINE_CERT", own.join("application-app.pem"))
        .with("TRINE_KEY", own.join("application-app.key"));
    let refusal = foreign_certificate.refused(5, &["acquire", "demo"]);
    refusal.says(&["certificate"]);
    // That one is the asker's, and the doctor blames no node for it.
    let refusal = foreign_certificate.refused(5, &["cluster", "doctor"]);
    refusal.says(&["about who asks", "TRINE_CERT"]);
}

#[test]
fn half_an_identity_is_a_usage_error() {
    let cluster = shared();
    let half = cluster.caller().with("TRINE_CERT", pki(cluster, "application-developer.pem"));
    half.refused(2, &["acquire", "demo"]).says(&["TRINE_KEY"]);
    // And so are two.
    let both = half
        .with("TRINE_KEY", pki(cluster, "application-developer.key"))
        .with("TRINE_TOKEN_FILE", "a.token");
    both.refused(2, &["acquire", "demo"]).says(&["TRINE_CERT and TRINE_TOKEN_FILE", "unset"]);
    let absent = cluster.caller().with("TRINE_TOKEN_FILE", "no-such-file");
    absent.refused(2, &["acquire", "demo"]).says(&["no-such-file"]);
}
