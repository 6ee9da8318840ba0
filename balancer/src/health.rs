//! What a balancer says of itself, in plain HTTP: `/livez`, `/readyz`,
//! `/metrics`, `/status`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::board::Board;

/// Longest life of a connection here. One request each, so that nobody holds one.
const CONNECTION_PERIOD: Duration = Duration::from_secs(10);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(board)
}

/// Answers one request on this connection.
pub(crate) async fn serve(router: Router, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A caller that hangs up or dawdles is its own loss.
    let _ = tokio::time::timeout(CONNECTION_PERIOD, answer).await;
}

async fn ready(State(board): State<Arc<Board>>) -> Response {
    match board.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(board): State<Arc<Board>>) -> Response {
    match board.telemetry.text() {
        Ok(page) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(State(board): State<Arc<Board>>) -> Response {
    Json(board.status()).into_response()
}
