//! What operators ask of a cluster, typed, for the command line.
//!
//! Answered by the leader; others name it and are followed there. What a
//! single node says of itself is asked [`at`](Operator::at) that node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Response, Status, Streaming};
use wire::v1::{self, cluster_client::ClusterClient};

use crate::connection::Connection;
use crate::core::{Core, origin};
use crate::endpoints::Endpoint;
use crate::error::CallError;
use crate::patience::Patience;

/// Long listings: a hundred thousand seats are some ten megabytes.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client in the operator's role.
#[derive(Clone)]
pub struct Operator {
    core: Arc<Core>,
}

/// An operator's calls to one node, whoever leads.
#[derive(Clone)]
pub struct AtNode {
    core: Arc<Core>,
    endpoint: Endpoint,
}

type Cluster = ClusterClient<Connection>;

impl Operator {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Calls that one node answers itself.
    pub fn at(&self, endpoint: Endpoint) -> AtNode {
        AtNode { core: Arc::clone(&self.core), endpoint }
    }

    /// The cluster as the leader sees it, linearizable.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn status(&self) -> Result<v1::StatusReply, CallError> {
        self.ask(|mut cluster| async move { cluster.status(v1::StatusRequest {}).await }).await
    }

    /// Raises the feature level to `level`, or to the highest that any node's
    /// build knows; with `check` only says what that would mean. Raising twice
    /// is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn upgrade(
        &self,
        level: Option<u16>,
        check: bool,
    ) -> Result<v1::UpgradeReply, CallError> {
        let request = v1::UpgradeRequest { check, level: level.unwrap_or_default().into() };
        self.ask(|mut cluster| async move { cluster.upgrade(request).await }).await
    }

    /// Has node `to` lead, or the voter that answers and holds the most of the log.
    /// Should it not take over, another does: the reply says who leads.
    ///
    /// # Errors
    /// Not done, or not known.
    pub async fn transfer_leader(
        &self,
        to: Option<u64>,
    ) -> Result<v1::TransferLeaderReply, CallError> {
        let request = v1::TransferLeaderRequest { to: to.unwrap_or_default() };
        self.ask(|mut cluster| async move { cluster.transfer_leader(request).await }).await
    }

    /// Who holds and who awaits seats of `product`, or of all products.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn seats(&self, product: Option<&str>) -> Result<v1::SeatsReply, CallError> {
        let request = v1::SeatsRequest { product: product.unwrap_or_default().to_owned() };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.seats(request).await }
        })
        .await
    }

    /// Ends the renewal of a seat, named by its token.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn revoke(&self, seat: u64) -> Result<v1::RevokeReply, CallError> {
        self.ask(|mut cluster| async move { cluster.revoke(v1::RevokeRequest { seat }).await })
            .await
    }

    /// The cluster's request for a license, to send to the vendor.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn request_license(&self) -> Result<v1::RequestLicenseReply, CallError> {
        self.ask(|mut cluster| async move {
            cluster.request_license(v1::RequestLicenseRequest {}).await
        })
        .await
    }

    /// Installs or updates a license package. Installing it twice is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn install_license(
        &self,
        package: Vec<u8>,
    ) -> Result<v1::InstallLicenseReply, CallError> {
        self.ask(|mut cluster| {
            let request = v1::InstallLicenseRequest { package: package.clone() };
            async move { cluster.install_license(request).await }
        })
        .await
    }

    /// The installed licenses.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn list_licenses(&self) -> Result<v1::ListLicensesReply, CallError> {
        self.ask(
            |mut cluster| async move { cluster.list_licenses(v1::ListLicensesRequest {}).await },
        )
        .await
    }

    /// Takes one node's share of a license (FIRM:PRODUCT:TMR) out of service.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn withdraw_share(
        &self,
        license: &str,
        node: u64,
    ) -> Result<v1::WithdrawShareReply, CallError> {
        let request = v1::WithdrawShareRequest { license: license.to_owned(), node };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.withdraw_share(request).await }
        })
        .await
    }

    /// Takes the next step in replacing a member by a new node, or back with
    /// `undo`. Repeat it until it says `ended`; repeating is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn replace_node(
        &self,
        request: v1::ReplaceNodeRequest,
    ) -> Result<v1::ReplaceNodeReply, CallError> {
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.replace_node(request).await }
        })
        .await
    }

    /// Orders the lost share of a license (FIRM:PRODUCT:TMR) to be made again
    /// by the two others, for each member that has none.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn repair_license(&self, license: &str) -> Result<v1::RepairLicenseReply, CallError> {
        let request = v1::RepairLicenseRequest { license: license.to_owned() };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.repair_license(request).await }
        })
        .await
    }

    /// Lets an application in by bearer token. The secret is in the reply only.
    ///
    /// Not sent again once its outcome is in doubt: every sending makes a token.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn issue_token(
        &self,
        subject: &str,
        lifetime: Duration,
    ) -> Result<v1::IssueTokenReply, CallError> {
        let lifetime_ms = crate::time::millis(lifetime);
        let request = v1::IssueTokenRequest { subject: subject.to_owned(), lifetime_ms };
        let patience = self.core.patiently().without_repeats();
        self.ask_with(patience, |mut cluster| {
            let request = request.clone();
            async move { cluster.issue_token(request).await }
        })
        .await
    }

    /// Ends every token of a subject.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn revoke_token(&self, subject: &str) -> Result<v1::RevokeTokenReply, CallError> {
        let request = v1::RevokeTokenRequest { subject: subject.to_owned() };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.revoke_token(request).await }
        })
        .await
    }

    /// The tokens in force, without their secrets.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn list_tokens(&self) -> Result<v1::ListTokensReply, CallError> {
        self.ask(|mut cluster| async move { cluster.list_tokens(v1::ListTokensRequest {}).await })
            .await
    }

    /// Installs a vendor's clock reset. One that has counted is refused the
    /// second time, so a repeat after doubt harms nothing.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn reset_clock(&self, reset: Vec<u8>) -> Result<v1::ResetClockReply, CallError> {
        self.ask(|mut cluster| {
            let request = v1::ResetClockRequest { reset: reset.clone() };
            async move { cluster.reset_clock(request).await }
        })
        .await
    }

    /// Shuts out one certificate (DER), at once and on all nodes. Revoking it
    /// twice is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn revoke_certificate(
        &self,
        certificate: Vec<u8>,
    ) -> Result<v1::RevokeCertificateReply, CallError> {
        self.ask(|mut cluster| {
            let request = v1::RevokeCertificateRequest { certificate: certificate.clone() };
            async move { cluster.revoke_certificate(request).await }
        })
        .await
    }

    /// The certificates that are shut out.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn list_revoked(&self) -> Result<v1::ListRevokedReply, CallError> {
        self.ask(|mut cluster| async move { cluster.list_revoked(v1::ListRevokedRequest {}).await })
            .await
    }

    /// Pages of the usage history, as the leader has them.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn usage_pages(
        &self,
        request: v1::UsagePagesRequest,
    ) -> Result<v1::UsagePagesReply, CallError> {
        self.ask(|mut cluster| async move { cluster.usage_pages(request).await }).await
    }

    /// Says how much history is kept; what is `None` stays as it is.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn set_usage_retention(
        &self,
        days: Option<u32>,
        mebibytes: Option<u32>,
    ) -> Result<v1::SetUsageRetentionReply, CallError> {
        let request = v1::SetUsageRetentionRequest { days, mebibytes };
        self.ask(|mut cluster| async move { cluster.set_usage_retention(request).await }).await
    }

    /// The ledger as it is now, as a backup that nobody has encrypted yet.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn backup(&self) -> Result<Streaming<v1::BackupChunk>, CallError> {
        self.ask(|mut cluster| async move { cluster.backup(v1::BackupRequest {}).await }).await
    }

    /// Hands over one part of a backup that is being restored.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn restore_part(&self, part: v1::RestorePartRequest) -> Result<(), CallError> {
        self.ask(|mut cluster| {
            let part = part.clone();
            async move { cluster.restore_part(part).await }
        })
        .await
        .map(drop)
    }

    /// Puts a backup in force whose parts were handed over. Asking again is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn finish_restore(
        &self,
        backup: [u8; 32],
    ) -> Result<v1::FinishRestoreReply, CallError> {
        let request = v1::FinishRestoreRequest { backup: backup.to_vec() };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.finish_restore(request).await }
        })
        .await
    }

    /// Whom the cluster trusts: vendors, and its own CAs.
    ///
    /// # Errors
    /// No answer within the client's patience, or not allowed.
    pub async fn list_trust(&self) -> Result<v1::ListTrustReply, CallError> {
        self.ask(|mut cluster| async move { cluster.list_trust(v1::ListTrustRequest {}).await })
            .await
    }

    /// Trusts a vendor (its root file) or another CA of the cluster (PEM).
    /// Adding one twice is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn add_trust(&self, file: Vec<u8>) -> Result<v1::AddTrustReply, CallError> {
        self.ask(|mut cluster| {
            let request = v1::AddTrustRequest { file: file.clone() };
            async move { cluster.add_trust(request).await }
        })
        .await
    }

    /// Trusts one no more: `vendor` or `ca`, by its digest in hexadecimal.
    /// Removing one twice is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn remove_trust(
        &self,
        kind: &str,
        digest: &str,
    ) -> Result<v1::RemoveTrustReply, CallError> {
        let request = v1::RemoveTrustRequest { kind: kind.to_owned(), digest: digest.to_owned() };
        self.ask(|mut cluster| {
            let request = request.clone();
            async move { cluster.remove_trust(request).await }
        })
        .await
    }

    async fn ask<T, F>(&self, call: impl Fn(Cluster) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_with(self.core.patiently(), call).await
    }

    async fn ask_with<T, F>(
        &self,
        patience: Patience,
        call: impl Fn(Cluster) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let call = &call;
        self.core
            .persist(patience, |endpoint, within| async move {
                self.core
                    .exchange(&endpoint, within, |connection| async move {
                        call(cluster(connection)).await.map(Response::into_inner)
                    })
                    .await
            })
            .await
    }
}

impl AtNode {
    /// Forms the cluster. Once; not sent again once its outcome is in doubt.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn init(&self) -> Result<v1::InitReply, CallError> {
        self.ask(|mut cluster| async move { cluster.init(v1::InitRequest {}).await }).await
    }

    /// Begins to restore a backup, or goes on with it. Asking again is harmless.
    ///
    /// # Errors
    /// Refused, not done, or not known.
    pub async fn begin_restore(
        &self,
        request: v1::BeginRestoreRequest,
    ) -> Result<v1::BeginRestoreReply, CallError> {
        self.ask(|mut cluster| async move { cluster.begin_restore(request).await }).await
    }

    /// The node as it sees itself; works without a quorum.
    ///
    /// # Errors
    /// No answer, or not allowed.
    pub async fn node_status(&self) -> Result<v1::NodeStatusReply, CallError> {
        self.node_status_with(v1::NodeStatusRequest { checkup: false }).await
    }

    /// The same with its clock, its disk and whom it reaches, for a doctor.
    ///
    /// # Errors
    /// No answer, or not allowed.
    pub async fn checkup(&self) -> Result<v1::NodeStatusReply, CallError> {
        self.node_status_with(v1::NodeStatusRequest { checkup: true }).await
    }

    async fn node_status_with(
        &self,
        request: v1::NodeStatusRequest,
    ) -> Result<v1::NodeStatusReply, CallError> {
        self.ask(|mut cluster| async move { cluster.node_status(request).await }).await
    }

    /// Pages of the usage history as this node has them; `own` is set.
    ///
    /// # Errors
    /// No answer, or not allowed.
    pub async fn usage_pages(
        &self,
        request: v1::UsagePagesRequest,
    ) -> Result<v1::UsagePagesReply, CallError> {
        let request = v1::UsagePagesRequest { own: true, ..request };
        self.ask(|mut cluster| async move { cluster.usage_pages(request).await }).await
    }

    /// One try at this one node.
    async fn ask<T, F>(&self, call: impl FnOnce(Cluster) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let within = self.core.answer_within;
        let reply = self.core.exchange(&self.endpoint, within, |connection| async move {
            call(cluster(connection)).await.map(Response::into_inner)
        });
        Ok(reply.await?)
    }
}

fn cluster(connection: Connection) -> Cluster {
    ClusterClient::with_origin(connection, origin())
        .max_decoding_message_size(REPLY_BYTES_MAX)
        .max_encoding_message_size(REPLY_BYTES_MAX)
}
