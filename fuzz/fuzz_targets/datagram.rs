#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drcm::targets::run("datagram", bytes));
