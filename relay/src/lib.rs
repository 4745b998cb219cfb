//! Module page to come.
