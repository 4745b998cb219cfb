#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shadowmesh_properties::chain::check(bytes));
