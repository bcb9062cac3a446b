//! The choice of a token from logits: what [`Sample`](crate::ops::Sample) computes, as code for hosts and for devices
//! that run on one. The op's documentation says what it must be.

mod choice;
mod exponential;
mod keys;
mod settings;

pub use choice::{NoChoice, choose};
pub use settings::SampleSettings;

/// Number `draw` of the random numbers of a seed: the finaliser of SplitMix64 over a counter, so that any of them can
/// be had without those before it. Every bit is as good as any other.
pub const fn random(seed: u64, draw: u32) -> u64 {
    let counter = (draw as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut x = seed.wrapping_add(counter);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        // The first numbers of its published reference code for the seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (draw, number) in (0..).zip(expected) {
            assert_eq!(random(1_234_567, draw), number);
        }
    }
}
