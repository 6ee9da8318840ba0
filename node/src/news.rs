//! Waiting for news from a part of the node that may have ended.

/// Resolves with the news. When nobody is left to tell any, because the node is
/// ending, it never does: whoever waits is ended with the node.
pub(crate) async fn or_never<E>(news: impl Future<Output = Result<(), E>>) {
    if news.await.is_err() {
        std::future::pending::<()>().await;
    }
}
