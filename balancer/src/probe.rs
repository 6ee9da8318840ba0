//! Asks one node how it is, over and over: `GET /leader` on its health listener.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, header};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::board::Board;
use crate::config::{HostPort, Node, Probe};
use crate::net::Connector;
use crate::topology::Report;

/// Longest answer read; a report is some hundred bytes.
const ANSWER_LENGTH_MAX: usize = 16 * 1024;

/// Why a probe failed, in words for the log and `/status`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("connecting failed: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the answer broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("it answered HTTP {0} to GET /leader; is this a node's health listener?")]
    Status(http::StatusCode),
    #[error(
        "its answer is longer than {ANSWER_LENGTH_MAX} bytes; is this a node's health listener?"
    )]
    TooLong,
    #[error("its answer is no report: {0}; is this a node's health listener?")]
    Report(#[from] serde_json::Error),
    #[error("it says it is {}; correct the id or the address in the configuration", .0.node)]
    OtherNode(Report),
}

/// Probes `node` for ever and tells the board what it finds.
pub(crate) async fn watch<C: Connector>(board: &Board, connector: &C, node: &Node, probe: &Probe) {
    loop {
        let started = Instant::now();
        let found = match tokio::time::timeout(probe.timeout, ask(connector, &node.health)).await {
            Ok(Ok(report)) if report.node != node.id => Err(ProbeError::OtherNode(report)),
            Ok(found) => found,
            Err(_) => Err(ProbeError::TimedOut(probe.timeout)),
        };
        board.probed(node.id, found, started.elapsed());
        tokio::time::sleep(probe.interval).await;
    }
}

/// One question on a connection of its own, so that a probe also shows whether
/// the node still accepts any.
async fn ask<C: Connector>(connector: &C, address: &HostPort) -> Result<Report, ProbeError> {
    let stream = connector.connect(address).await.map_err(ProbeError::Connect)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/leader")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(String::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(ProbeError::Status(response.status()));
        }
        Ok(serde_json::from_slice(&read(response.into_body()).await?)?)
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection ends when all of the answer has been handed over.
        ended = &mut connection => { ended?; answer.await }
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, ProbeError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(chunk) = frame?.into_data() {
            if bytes.len() + chunk.len() > ANSWER_LENGTH_MAX {
                return Err(ProbeError::TooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok(bytes)
}
