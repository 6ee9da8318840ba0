//! `trine token`: letting applications in by bearer token.

use std::time::Duration;

use clap::{Args, Subcommand};
use license::product::WallTime;
use serde::Serialize;

use super::Call;
use crate::context::Purpose;
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Let applications in by bearer token instead of a certificate
///
/// A token is for applications only, works on all nodes at once, expires, and
/// stops at once when it is revoked. The cluster keeps its digest, not the token.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine token issue ci-runner --days 30 > ci-runner.token
  trine token list
  trine token revoke ci-runner")]
pub struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Issue(Issue),
    List(List),
    Revoke(Revoke),
}

/// Issue a token; it is printed once and stored nowhere
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine token issue ci-runner > ci-runner.token && chmod 600 ci-runner.token
  TRINE_TOKEN_FILE=ci-runner.token trine acquire cad-pro")]
struct Issue {
    /// The application it stands for
    name: String,
    /// How long it works
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
}

/// List the tokens in force, without their secrets
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine token list
  trine --json token list")]
struct List {}

/// Revoke every token of an application, at once and on all nodes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine token revoke ci-runner")]
struct Revoke {
    /// The application
    name: String,
}

/// `trine token issue --json`
#[derive(Debug, Serialize)]
struct Issued {
    /// The application.
    name: String,
    /// The token. Shown once.
    token: String,
    /// RFC 3339.
    expires: String,
}

/// `trine token list --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// By name.
    tokens: Vec<Listing>,
}

#[derive(Debug, Serialize)]
struct Listing {
    /// The application.
    name: String,
    /// RFC 3339.
    expires: String,
}

/// `trine token revoke --json`
#[derive(Debug, Serialize)]
struct Revoked {
    /// The application.
    name: String,
    /// Always true.
    revoked: bool,
}

impl Token {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            match self.action {
                Action::Issue(issue) => issue.run(call, &connection).await,
                Action::List(List {}) => list(call, &connection).await,
                Action::Revoke(revoke) => revoke.run(call, &connection).await,
            }
        })
    }
}

impl Issue {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let lifetime = Duration::from_secs(u64::from(self.days) * 24 * 60 * 60);
        let issued = connection.operator().issue_token(&self.name, lifetime).await;
        let issued = issued.map_err(|error| connection.failed(&error))?;
        let expires = show_date(WallTime(issued.expires_ms));
        let issued = Issued { name: self.name, token: issued.secret, expires };
        // On stderr, so that stdout can go straight into a file.
        call.console.progress(format_args!(
            "A token for {} until {}. It is shown once; keep it secret.",
            issued.name, issued.expires
        ));
        call.console.result(&issued, |page| page.line(&issued.token))?;
        Ok(Exit::Done)
    }
}

async fn list(call: &Call, connection: &Connection) -> Result<Exit, Failure> {
    let listed = connection.operator().list_tokens().await;
    let tokens = listed.map_err(|error| connection.unread(&error))?.tokens;
    let listing = |token: wire::v1::list_tokens_reply::Token| Listing {
        name: token.subject,
        expires: show_date(WallTime(token.expires_ms)),
    };
    let listed = Listed { tokens: tokens.into_iter().map(listing).collect() };
    call.console.result(&listed, |page| {
        if listed.tokens.is_empty() {
            return page.line("No tokens are in force.");
        }
        let row = |token: &Listing| vec![token.name.clone(), token.expires.clone()];
        page.table(&["application", "expires"], listed.tokens.iter().map(row));
    })?;
    Ok(Exit::Done)
}

impl Revoke {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let listed = connection.operator().list_tokens().await;
        let listed = listed.map_err(|error| connection.unread(&error))?.tokens;
        let revoked = connection.operator().revoke_token(&self.name).await;
        revoked.map_err(|error| connection.failed(&error))?;
        // Revoked all the same: one may have been issued since.
        if !listed.iter().any(|token| token.subject == self.name) {
            let what = format!("no token of {} was in force", self.name);
            return Err(Failure::refused("UNKNOWN_TOKEN", what)
                .next("see `trine token list` for those that are"));
        }
        let revoked = Revoked { name: self.name, revoked: true };
        call.console.result(&revoked, |page| {
            page.line(format_args!("No token of {} works any more", revoked.name));
        })?;
        Ok(Exit::Done)
    }
}
