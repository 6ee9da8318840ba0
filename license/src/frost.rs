//! frost
