//! The real binary, run as a person or a script runs it: exit codes, sentences, what is remembered and what is not shown.
//!
//! Nothing here starts a daemon that works: `--device lo` is a name that can never become a TAP device, so `up` gets as far as
//! the kernel and ends there, with or without rights. Where a daemon has to answer, the test plays it ([`answered`]).

mod alone;
mod answered;
mod doctor;
mod documents;
mod program;
mod rules;
mod service;
