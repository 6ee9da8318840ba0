//! What operators call: form, see, license, revoke.

mod backup;
mod certificates;
mod history;
mod show;
mod trust;
mod upgrade;

use std::path::PathBuf;
use std::sync::Arc;

use ledger::Ledger;
use ledger::command::{
    Command, Distrust, GenesisRefusal, Install, IssueToken, OrderRepair, Refusal, Reply,
    ResetClock, Revoke, RevokeToken, Token, Trust, WithdrawShare,
};
use ledger::name::{Address, Subject};
use license::package::Package;
use license::product::{LicenseId, NodeId};
use license::reset::ClockReset;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::cluster_server;

use super::{Answers, convert, error};
use crate::acquaintance::Acquaintances;
use crate::certificates::Certificates;
use crate::checkup;
use crate::formation::Formation;
use crate::handover;
use crate::identity::{application, token_digest};
use crate::replace::{self, Order, Replacer};
use crate::service::Service;

/// `trine.v1.Cluster`, answered by the leading node.
pub(super) struct Cluster {
    pub(super) service: Service,
    pub(super) formation: Arc<Formation>,
    pub(super) engine: &'static str,
    pub(super) certificates: Certificates,
    pub(super) data: Option<PathBuf>,
    pub(super) proxies: Vec<String>,
    pub(super) acquaintances: Acquaintances,
    pub(super) answers: Answers,
    pub(super) replacer: Arc<Replacer>,
    /// One backup at a time: each is a copy of the ledger in memory.
    pub(super) backups: Arc<Semaphore>,
}

impl Cluster {
    /// Who asks; operators' doings are named after them in the log.
    fn operator<T>(&self, request: &Request<T>) -> Result<Subject, Status> {
        Ok(self.answers.caller(request)?.subject)
    }

    /// Has the ledger do something, which this node must lead for.
    async fn command(&self, command: Command) -> Result<Reply, Status> {
        self.answers.granted(self.service.submit_here(command).await)
    }

    /// Reads the ledger as it is now, which this node must lead for.
    async fn read<T>(
        &self,
        look: impl FnOnce(&Ledger) -> T,
    ) -> Result<(Option<v1::Envelope>, T), Status> {
        match self.service.read(look).await {
            Ok((as_of, seen)) => Ok((convert::as_of(as_of), seen)),
            Err(why) => Err(self.answers.tell(error::not_answered(&why))),
        }
    }

    fn invalid(&self, message: impl Into<String>) -> Status {
        self.answers.tell(error::invalid(message))
    }

    fn license_id(&self, text: &str) -> Result<LicenseId, Status> {
        LicenseId::parse(text).map_err(|name| self.answers.tell(error::invalid_name(&name)))
    }

    /// The subject of the application a token call names.
    fn token_subject(&self, name: &str) -> Result<Subject, Status> {
        pki::Identity::new(pki::Role::Application, name)
            .map_err(|invalid| self.invalid(invalid.to_string()))?;
        application(name).map_err(|name| self.answers.tell(error::invalid_name(&name)))
    }
}

/// Whether there is a cluster, or why not.
fn require_formed(ledger: &Ledger) -> Result<(), GenesisRefusal> {
    match (ledger.charter(), ledger.restoring()) {
        (Some(_), _) => Ok(()),
        (None, Some(_)) => Err(GenesisRefusal::Restoring),
        (None, None) => Err(GenesisRefusal::NotFormed),
    }
}

fn envelope(reply: &Reply) -> Option<v1::Envelope> {
    Some(convert::envelope(reply.log_id, reply.stamp))
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitReply>, Status> {
        let by = self.operator(&request)?;
        let formed = self.formation.form().await;
        let formed = formed.map_err(|why| self.answers.tell(error::not_formed(&why)))?;
        tracing::info!(%by, cluster = %formed.cluster, "cluster formed");
        Ok(Response::new(v1::InitReply {
            cluster_id: formed.cluster.to_string(),
            virtual_container: formed.virtual_container.to_string(),
        }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        self.operator(&request)?;
        let node = self.service.node_status();
        let look = |ledger: &Ledger| {
            // While it is being formed or restored it has a leader and nothing to show.
            require_formed(ledger)?;
            Ok(show::status(ledger, &node, &self.formation.roster))
        };
        let (as_of, status) = self.read(look).await?;
        let mut status =
            status.map_err(|why| self.answers.tell(error::refused_here(&Refusal::Genesis(why))))?;
        status.as_of = as_of;
        // One that has ended since the ledger was looked at is none.
        let under_way = replace::under_way(&self.formation);
        status.replacement = status.replacement.zip(under_way).map(|(mut pending, progress)| {
            (pending.stage, pending.detail) = (progress.stage.into(), progress.detail);
            pending
        });
        Ok(Response::new(status))
    }

    async fn node_status(
        &self,
        request: Request<v1::NodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatusReply>, Status> {
        self.operator(&request)?;
        let node = self.service.node_status();
        let mut status = self.service.peek(|ledger| show::node_status(ledger, &node));
        status.engine = self.engine.to_owned();
        let others = self.acquaintances.of_other_origins();
        status.other_origins = others.into_iter().map(show::other_origin).collect();
        status.certificates = self.certificates.in_use().iter().map(show::in_use).collect();
        if request.get_ref().checkup {
            let Self { formation, answers, data, .. } = self;
            let mut seen = checkup::look(formation, &answers.metrics, data.as_deref()).await;
            seen.certificates_refused = self.certificates.refused.reason().unwrap_or_default();
            seen.trusted_proxies = self.proxies.clone();
            status.checkup = Some(seen);
        }
        status.container = self.formation.shares.container().identity().serial().to_string();
        Ok(Response::new(status))
    }

    async fn upgrade(
        &self,
        request: Request<v1::UpgradeRequest>,
    ) -> Result<Response<v1::UpgradeReply>, Status> {
        self.raise_level(request).await
    }

    async fn seats(
        &self,
        request: Request<v1::SeatsRequest>,
    ) -> Result<Response<v1::SeatsReply>, Status> {
        self.operator(&request)?;
        let product = match request.get_ref().product.as_str() {
            "" => None,
            name => Some(convert::product(name).map_err(|no| self.answers.tell(no))?),
        };
        let product = product.as_ref();
        let look = |ledger: &Ledger| (ledger.seats(product), ledger.waiters(product));
        let (as_of, (seats, waiters)) = self.read(look).await?;
        let seats = seats.into_iter().map(show::seat).collect();
        let waiters = waiters.into_iter().map(show::waiter).collect();
        Ok(Response::new(v1::SeatsReply { as_of, seats, waiters }))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeReply>, Status> {
        let by = self.operator(&request)?;
        let seat = Token(request.get_ref().seat);
        let reply = self.command(Command::Revoke(Revoke { seat, by: by.clone() })).await?;
        tracing::info!(%by, %seat, "seat revoked");
        Ok(Response::new(v1::RevokeReply { envelope: envelope(&reply) }))
    }

    async fn request_license(
        &self,
        request: Request<v1::RequestLicenseRequest>,
    ) -> Result<Response<v1::RequestLicenseReply>, Status> {
        self.operator(&request)?;
        let made = self.formation.request_license().await;
        let made = made.map_err(|why| self.answers.tell(error::not_formed(&why)))?;
        Ok(Response::new(v1::RequestLicenseReply {
            request: made.encode(),
            fingerprint: made.fingerprint(),
        }))
    }

    async fn install_license(
        &self,
        request: Request<v1::InstallLicenseRequest>,
    ) -> Result<Response<v1::InstallLicenseReply>, Status> {
        let by = self.operator(&request)?;
        let package = request.into_inner().package;
        // What is no package at all is not worth a place in the log.
        let read = Package::decode(&package).map_err(|refusal| {
            self.answers.tell(error::refused_here(&Refusal::Package(refusal)))
        })?;
        let (license, serial) = (read.claimed_terms().license, read.claimed_terms().serial);
        let reply = self.command(Command::Install(Install { package, by: by.clone() })).await?;
        tracing::info!(%by, %license, serial = serial.0, "license installed");
        Ok(Response::new(v1::InstallLicenseReply {
            envelope: envelope(&reply),
            license: license.to_string(),
            serial: serial.0,
        }))
    }

    async fn list_licenses(
        &self,
        request: Request<v1::ListLicensesRequest>,
    ) -> Result<Response<v1::ListLicensesReply>, Status> {
        self.operator(&request)?;
        let (as_of, licenses) = self.read(show::listed_licenses).await?;
        Ok(Response::new(v1::ListLicensesReply { as_of, licenses }))
    }

    async fn withdraw_share(
        &self,
        request: Request<v1::WithdrawShareRequest>,
    ) -> Result<Response<v1::WithdrawShareReply>, Status> {
        let by = self.operator(&request)?;
        let license = self.license_id(&request.get_ref().license)?;
        let node = NodeId(request.get_ref().node);
        let withdraw = WithdrawShare { license, node, by: by.clone() };
        let reply = self.command(Command::WithdrawShare(withdraw)).await?;
        tracing::info!(%by, %license, %node, "share withdrawn");
        Ok(Response::new(v1::WithdrawShareReply { envelope: envelope(&reply) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let by = self.operator(&request)?;
        // Only who leads, with a quorum, can hand leadership over.
        let members = |ledger: &Ledger| -> Vec<NodeId> {
            ledger.members().into_iter().map(|member| member.node).collect()
        };
        let (_, members) = self.read(members).await?;
        let to = match request.get_ref().to {
            0 => None,
            to if members.contains(&NodeId(to)) => Some(to),
            to => return Err(self.invalid(format!("node-{to} is not a member of this cluster"))),
        };
        let from = self.service.node_status().id;
        let leader = handover::hand_over(&self.formation.raft, &self.service, to).await;
        let leader = leader.map_err(|why| self.answers.tell(error::not_handed_over(&why)))?;
        tracing::info!(%by, from, leader, "leadership was to be handed over");
        Ok(Response::new(v1::TransferLeaderReply { from, leader }))
    }

    async fn replace_node(
        &self,
        request: Request<v1::ReplaceNodeRequest>,
    ) -> Result<Response<v1::ReplaceNodeReply>, Status> {
        let by = self.operator(&request)?;
        let asked = request.into_inner();
        let peer = match asked.new_address.as_str() {
            "" => None,
            address => {
                let parsed = Address::parse(address);
                Some(parsed.map_err(|name| self.answers.tell(error::invalid_name(&name)))?)
            }
        };
        let (old, new) = (NodeId(asked.old_node), NodeId(asked.new_node));
        if new.0 == 0 || old == new {
            return Err(self.invalid("name the member that goes and a new node, which differ"));
        }
        let order = Order { old, new, peer, undo: asked.undo, by };
        let progress = self.replacer.step(&self.formation, &order).await;
        let progress = progress.map_err(|why| self.answers.tell(error::not_replaced(&why)))?;
        Ok(Response::new(v1::ReplaceNodeReply {
            stage: progress.stage.to_owned(),
            detail: progress.detail,
            ended: progress.ended,
        }))
    }

    async fn repair_license(
        &self,
        request: Request<v1::RepairLicenseRequest>,
    ) -> Result<Response<v1::RepairLicenseReply>, Status> {
        let by = self.operator(&request)?;
        let license = self.license_id(&request.get_ref().license)?;
        let (as_of, lacking) = self.read(|ledger| ledger.lacking_share(license)).await?;
        let lacking =
            lacking.map_err(|refusal| self.answers.tell(error::refused_here(&refusal)))?;
        let mut placed = as_of;
        for node in &lacking {
            let order = OrderRepair { license, node: *node, by: by.clone() };
            let reply = self.command(Command::OrderRepair(order)).await?;
            tracing::info!(%by, %license, %node, "a share is to be made again");
            placed = envelope(&reply);
        }
        let nodes = lacking.iter().map(|node| node.0).collect();
        Ok(Response::new(v1::RepairLicenseReply { envelope: placed, nodes }))
    }

    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenReply>, Status> {
        let by = self.operator(&request)?;
        let v1::IssueTokenRequest { subject, lifetime_ms } = request.into_inner();
        let subject = self.token_subject(&subject)?;
        let lifetime = convert::token_lifetime(lifetime_ms).map_err(|no| self.answers.tell(no))?;
        let secret = self.new_secret();
        let digest = token_digest(&secret);
        // The ledger judges a token's end by its own calendar, if it has one yet.
        let now = self.service.peek(|ledger| ledger.wall());
        let now = now.unwrap_or_else(|| self.formation.clock.wall());
        let expires = now.plus_millis(lifetime);
        let issue = IssueToken { digest, subject: subject.clone(), expires, by: by.clone() };
        let reply = self.command(Command::IssueToken(issue)).await?;
        tracing::info!(%by, %subject, "bearer token issued");
        Ok(Response::new(v1::IssueTokenReply {
            envelope: envelope(&reply),
            secret,
            expires_ms: expires.0,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenReply>, Status> {
        let by = self.operator(&request)?;
        let subject = self.token_subject(&request.get_ref().subject)?;
        let revoke = RevokeToken { subject: subject.clone(), by: by.clone() };
        let reply = self.command(Command::RevokeToken(revoke)).await?;
        tracing::info!(%by, %subject, "bearer tokens revoked");
        Ok(Response::new(v1::RevokeTokenReply { envelope: envelope(&reply) }))
    }

    type BackupStream = backup::Chunks;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let by = self.operator(&request)?;
        self.back_up(&by).await.map(Response::new)
    }

    async fn begin_restore(
        &self,
        request: Request<v1::BeginRestoreRequest>,
    ) -> Result<Response<v1::BeginRestoreReply>, Status> {
        let by = self.operator(&request)?;
        self.start_restore(request.into_inner(), by).await.map(Response::new)
    }

    async fn restore_part(
        &self,
        request: Request<v1::RestorePartRequest>,
    ) -> Result<Response<v1::RestorePartReply>, Status> {
        self.operator(&request)?;
        let reply = self.take_part(request.into_inner()).await?;
        Ok(Response::new(v1::RestorePartReply { envelope: envelope(&reply) }))
    }

    async fn finish_restore(
        &self,
        request: Request<v1::FinishRestoreRequest>,
    ) -> Result<Response<v1::FinishRestoreReply>, Status> {
        let by = self.operator(&request)?;
        let reply = self.end_restore(request.into_inner(), &by).await?;
        Ok(Response::new(v1::FinishRestoreReply { envelope: envelope(&reply) }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensReply>, Status> {
        self.operator(&request)?;
        let (as_of, tokens) = self.read(Ledger::bearer_tokens).await?;
        let tokens = tokens.into_iter().map(show::token).collect();
        Ok(Response::new(v1::ListTokensReply { as_of, tokens }))
    }

    async fn reset_clock(
        &self,
        request: Request<v1::ResetClockRequest>,
    ) -> Result<Response<v1::ResetClockReply>, Status> {
        let by = self.operator(&request)?;
        let reset = request.into_inner().reset;
        // What is no reset at all is not worth a place in the log.
        let read = ClockReset::decode(&reset).map_err(|refusal| {
            self.answers.tell(error::refused_here(&Refusal::ClockReset(refusal)))
        })?;
        let (firm, terms) = (read.claimed_certificate().firm(), *read.claimed_terms());
        let reply = self.command(Command::ResetClock(ResetClock { reset, by: by.clone() })).await?;
        tracing::info!(%by, firm = firm.0, serial = terms.serial, to = %terms.to, "clock reset");
        Ok(Response::new(v1::ResetClockReply {
            envelope: envelope(&reply),
            firm: firm.0,
            to_ms: terms.to.0,
        }))
    }

    async fn revoke_certificate(
        &self,
        request: Request<v1::RevokeCertificateRequest>,
    ) -> Result<Response<v1::RevokeCertificateReply>, Status> {
        let by = self.operator(&request)?;
        let revoke = certificates::read(&request.get_ref().certificate, by.clone())
            .map_err(|problem| self.invalid(problem))?;
        let (fingerprint, subject) = (convert::hex(&revoke.fingerprint), revoke.subject.clone());
        let reply = self.command(Command::RevokeCertificate(revoke.clone())).await?;
        tracing::info!(%by, %subject, %fingerprint, "certificate revoked");
        let revoked = Some(show::revoked(certificates::seen(revoke)));
        Ok(Response::new(v1::RevokeCertificateReply { envelope: envelope(&reply), revoked }))
    }

    async fn list_revoked(
        &self,
        request: Request<v1::ListRevokedRequest>,
    ) -> Result<Response<v1::ListRevokedReply>, Status> {
        self.operator(&request)?;
        let (as_of, certificates) = self.read(Ledger::revoked_certificates).await?;
        let certificates = certificates.into_iter().map(show::revoked).collect();
        Ok(Response::new(v1::ListRevokedReply { as_of, certificates }))
    }

    async fn usage_pages(
        &self,
        request: Request<v1::UsagePagesRequest>,
    ) -> Result<Response<v1::UsagePagesReply>, Status> {
        self.operator(&request)?;
        self.pages(request.get_ref()).await.map(Response::new)
    }

    async fn set_usage_retention(
        &self,
        request: Request<v1::SetUsageRetentionRequest>,
    ) -> Result<Response<v1::SetUsageRetentionReply>, Status> {
        let by = self.operator(&request)?;
        self.retain(by, request.get_ref()).await.map(Response::new)
    }

    async fn list_trust(
        &self,
        request: Request<v1::ListTrustRequest>,
    ) -> Result<Response<v1::ListTrustReply>, Status> {
        self.operator(&request)?;
        let (as_of, anchors) = self.read(trust::list).await?;
        Ok(Response::new(v1::ListTrustReply { as_of, anchors }))
    }

    async fn add_trust(
        &self,
        request: Request<v1::AddTrustRequest>,
    ) -> Result<Response<v1::AddTrustReply>, Status> {
        let by = self.operator(&request)?;
        let anchor = trust::read(&request.get_ref().file).map_err(|why| self.invalid(why))?;
        let (kind, digest) = trust::named(&anchor);
        let reply = self.command(Command::Trust(Trust { anchor, by: by.clone() })).await?;
        tracing::info!(%by, kind, digest, "trusted from now on");
        let envelope = envelope(&reply);
        Ok(Response::new(v1::AddTrustReply { envelope, kind: kind.to_owned(), digest }))
    }

    async fn remove_trust(
        &self,
        request: Request<v1::RemoveTrustRequest>,
    ) -> Result<Response<v1::RemoveTrustReply>, Status> {
        let by = self.operator(&request)?;
        let v1::RemoveTrustRequest { kind, digest } = request.into_inner();
        let anchor = trust::read_id(&kind, &digest).map_err(|why| self.invalid(why))?;
        let reply = self.command(Command::Distrust(Distrust { anchor, by: by.clone() })).await?;
        tracing::info!(%by, kind, digest, "trusted no more");
        Ok(Response::new(v1::RemoveTrustReply { envelope: envelope(&reply) }))
    }
}

impl Cluster {
    /// A bearer token's secret: 256 bits of the operating system's randomness.
    fn new_secret(&self) -> String {
        let mut bytes = [0; 32];
        self.formation.entropy.fill(&mut bytes);
        format!("trine_{}", convert::hex(&bytes))
    }
}
