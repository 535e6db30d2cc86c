//! Random queries over random data end in an answer or an error, and give their memory back.

mod generator;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_queries_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 50..600)) {
        generator::evaluate_anything(&bytes);
    }
}

/// A generator of nonsense would test the parser only.
#[test]
fn most_random_queries_are_valid() {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let valid =
        (0..200).filter(|_| generator::evaluate_anything(&(0..400).map(|_| byte()).collect::<Vec<_>>())).count();
    assert!(valid > 100, "{valid} of 200");
}
