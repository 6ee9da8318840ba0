//! Usage history at the reader's end: where pages come from, and what is made of them.

pub mod file;
pub mod row;
pub mod source;
pub mod summary;
