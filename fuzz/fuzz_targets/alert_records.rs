//! Files that keep alerts over restarts: any bytes are read or refused. Checksums are made right, so that what is behind them is
//! reached.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: Vec<Vec<u8>>| {
    fk_ledger::fuzz(&records);
});
