//! Refusals by reason, for counters and metrics.

use serde::{Deserialize, Serialize};

use crate::command::Refusal;

macro_rules! reasons {
    ($($reason:ident $label:literal $pattern:pat),* $(,)?) => {
        /// Why a command was refused, without the particulars of the case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = concat!("Counted as `", $label, "`.")] $reason,)*
        }

        impl Reason {
            /// Every reason, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The label of the metric.
            pub fn label(self) -> &'static str {
                match self { $(Self::$reason => $label),* }
            }
        }

        impl Refusal {
            /// The reason it is counted under.
            pub fn reason(&self) -> Reason {
                match self { $($pattern => Reason::$reason),* }
            }
        }
    };
}

// The order is the log format's: new reasons go at the end.
reasons! {
    NoSeatFree "no_seat_free" Self::NoSeatFree { .. },
    UnknownProduct "unknown_product" Self::UnknownProduct { .. },
    SharesMissing "shares_missing" Self::SharesMissing { .. },
    TermUnsigned "term_unsigned" Self::TermUnsigned { .. },
    NotYetActive "not_yet_active" Self::NotYetActive { .. },
    LicenseExpired "license_expired" Self::LicenseExpired { .. },
    VersionTooHigh "version_too_high" Self::VersionTooHigh { .. },
    StationHolds "station_holds" Self::StationHolds { .. },
    TooManySeats "too_many_seats" Self::TooManySeats { .. },
    QueueFull "queue_full" Self::QueueFull { .. },
    WaitedInVain "waited_in_vain" Self::WaitedInVain { .. },
    Withdrawn "withdrawn" Self::Withdrawn,
    TooLate "too_late" Self::TooLate { .. },
    TooFarAhead "too_far_ahead" Self::TooFarAhead { .. },
    IdReused "id_reused" Self::IdReused,
    NoSuchLease "no_such_lease" Self::NoSuchLease,
    LeaseEnded "lease_ended" Self::LeaseEnded { .. },
    SeatRevoked "seat_revoked" Self::SeatRevoked { .. },
    LicenseGone "license_gone" Self::LicenseGone { .. },
    NoSuchSeat "no_such_seat" Self::NoSuchSeat { .. },
    Genesis "genesis" Self::Genesis(_),
    Package "package" Self::Package(_),
    ProofInvalid "proof_invalid" Self::ProofInvalid { .. },
    UnknownLicense "unknown_license" Self::UnknownLicense { .. },
    OtherSerial "other_serial" Self::OtherSerial { .. },
    UnknownNode "unknown_node" Self::UnknownNode { .. },
    LedgerFull "ledger_full" Self::LedgerFull { .. },
    StaleStamp "stale_stamp" Self::StaleStamp,
    TokenInUse "token_in_use" Self::TokenInUse { .. },
    TermSignatureInvalid "term_signature_invalid" Self::TermSignatureInvalid { .. },
    SignerNotInService "signer_not_in_service" Self::SignerNotInService { .. },
    HeartbeatStale "heartbeat_stale" Self::HeartbeatStale { .. },
    Restored "restored" Self::Restored { .. },
    Restore "restore" Self::Restore(_),
    Replacement "replacement" Self::Replacement(_),
    Repair "repair" Self::Repair(_),
    ClockReset "clock_reset" Self::ClockReset(_),
    LevelTooLow "level_too_low" Self::LevelTooLow { .. },
    LevelNeverFalls "level_never_falls" Self::LevelNeverFalls { .. },
    BuildUnknown "build_unknown" Self::BuildUnknown { .. },
    BuildTooOld "build_too_old" Self::BuildTooOld { .. },
    Trust "trust" Self::Trust(_),
}
