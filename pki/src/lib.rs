//! Certificates and identities: who a connection belongs to.
