//! Who gets past which door of a real node, and with what: everything that can
//! be asked times everybody who may ask. What nobody has classified here does
//! not compile, or fails.

mod bed;
mod calls;
mod forwarded;
mod peers;
