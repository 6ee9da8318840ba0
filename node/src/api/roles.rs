//! Who may call what: one table, and nothing else decides.

use crate::identity::Role;

/// One call of the client listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its service, as HTTP/2 paths name it.
    pub service: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Who may make it.
    pub roles: &'static [Role],
}

const LICENSING: &str = "trine.v1.Licensing";
const CLUSTER: &str = "trine.v1.Cluster";

/// Operators may take seats too: by hand, to try a license out.
const ANYONE: &[Role] = &[Role::Application, Role::Operator];
const OPERATORS: &[Role] = &[Role::Operator];

const fn call(service: &'static str, name: &'static str, roles: &'static [Role]) -> Call {
    Call { service, name, roles }
}

/// Every call there is. Nodes make none of them: a node's certificate is
/// refused at the client listener before this table is asked.
pub const CALLS: &[Call] = &[
    call(LICENSING, "Clock", ANYONE),
    call(LICENSING, "Acquire", ANYONE),
    call(LICENSING, "Renew", ANYONE),
    call(LICENSING, "Release", ANYONE),
    call(LICENSING, "Cancel", ANYONE),
    call(CLUSTER, "Init", OPERATORS),
    call(CLUSTER, "Status", OPERATORS),
    call(CLUSTER, "NodeStatus", OPERATORS),
    call(CLUSTER, "Upgrade", OPERATORS),
    call(CLUSTER, "Seats", OPERATORS),
    call(CLUSTER, "Revoke", OPERATORS),
    call(CLUSTER, "RequestLicense", OPERATORS),
    call(CLUSTER, "InstallLicense", OPERATORS),
    call(CLUSTER, "ListLicenses", OPERATORS),
    call(CLUSTER, "WithdrawShare", OPERATORS),
    call(CLUSTER, "TransferLeader", OPERATORS),
    call(CLUSTER, "ReplaceNode", OPERATORS),
    call(CLUSTER, "RepairLicense", OPERATORS),
    call(CLUSTER, "IssueToken", OPERATORS),
    call(CLUSTER, "RevokeToken", OPERATORS),
    call(CLUSTER, "ListTokens", OPERATORS),
    call(CLUSTER, "ResetClock", OPERATORS),
    call(CLUSTER, "RevokeCertificate", OPERATORS),
    call(CLUSTER, "ListRevoked", OPERATORS),
    call(CLUSTER, "UsagePages", OPERATORS),
    call(CLUSTER, "SetUsageRetention", OPERATORS),
    call(CLUSTER, "Backup", OPERATORS),
    call(CLUSTER, "BeginRestore", OPERATORS),
    call(CLUSTER, "RestorePart", OPERATORS),
    call(CLUSTER, "FinishRestore", OPERATORS),
    call(CLUSTER, "ListTrust", OPERATORS),
    call(CLUSTER, "AddTrust", OPERATORS),
    call(CLUSTER, "RemoveTrust", OPERATORS),
];

impl Call {
    /// The call with this path, such as `/trine.v1.Licensing/Acquire`.
    pub fn of_path(path: &str) -> Option<&'static Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        CALLS.iter().find(|call| call.service == service && call.name == name)
    }

    /// Whether this role may make it.
    pub fn allows(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
