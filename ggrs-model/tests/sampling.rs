//! The sampler against a naive one in float64, against frequencies, and on bad input.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use ggrs_core::sampling::random;
use ggrs_model::sampling::{SampleError, Sampler, SamplerConfig};
use proptest::prelude::*;

fn greedy() -> SamplerConfig {
    SamplerConfig::default()
}

fn at_temperature(temperature: f32) -> SamplerConfig {
    SamplerConfig {
        temperature,
        ..greedy()
    }
}

fn choose(config: SamplerConfig, accepted: &[u32], logits: &[f32]) -> u32 {
    let mut sampler = Sampler::new(config, 0).unwrap();
    for &id in accepted {
        sampler.accept(id);
    }
    sampler.sample(logits).unwrap()
}

/// Every stage as its definition says, with full sorts: pairs of id and probability, best first.
fn naive_distribution(config: &SamplerConfig, recent: &[u32], logits: &[f32]) -> Vec<(u32, f64)> {
    let mut logits: Vec<(u32, f64)> = (0..)
        .zip(logits.iter().map(|&logit| f64::from(logit)))
        .collect();
    for (id, logit) in &mut logits {
        let n_times = recent.iter().filter(|recent| *recent == id).count();
        if n_times > 0 {
            let penalty = f64::from(config.repetition_penalty);
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
            *logit -= f64::from(config.presence_penalty);
            *logit -= n_times as f64 * f64::from(config.frequency_penalty);
        }
    }
    logits.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    if config.top_k > 0 {
        logits.truncate(config.top_k);
    }
    let softmax = |logits: &[(u32, f64)], temperature: f64| -> Vec<f64> {
        let weights: Vec<f64> = logits
            .iter()
            .map(|(_, logit)| ((logit - logits[0].1) / temperature).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    };
    let probabilities = softmax(&logits, 1.0);
    let mut sum = 0.0;
    let mut n_kept = 0;
    while n_kept < logits.len() && sum < f64::from(config.top_p) {
        sum += probabilities[n_kept];
        n_kept += 1;
    }
    if config.top_p < 1.0 {
        logits.truncate(n_kept);
    }
    let probabilities = softmax(&logits, 1.0);
    let n_kept = probabilities
        .iter()
        .take_while(|&&probability| probability >= f64::from(config.min_p) * probabilities[0])
        .count();
    logits.truncate(n_kept);
    let probabilities = softmax(&logits, f64::from(config.temperature));
    logits
        .into_iter()
        .map(|(id, _)| id)
        .zip(probabilities)
        .collect()
}

fn settings() -> impl Strategy<Value = SamplerConfig> {
    (
        prop_oneof![Just(1.0_f32), 0.05..3.0_f32],
        prop_oneof![Just(0_usize), 1..400_usize],
        prop_oneof![Just(1.0_f32), 0.01..1.0_f32],
        prop_oneof![Just(0.0_f32), 0.001..1.0_f32],
        prop_oneof![Just(1.0_f32), 0.5..2.0_f32],
        prop_oneof![Just((0.0_f32, 0.0_f32)), (-1.0..1.0_f32, -1.0..1.0_f32)],
        0..6_usize,
    )
        .prop_map(
            |(
                temperature,
                top_k,
                top_p,
                min_p,
                repetition_penalty,
                penalties,
                repetition_window,
            )| {
                SamplerConfig {
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    repetition_penalty,
                    presence_penalty: penalties.0,
                    frequency_penalty: penalties.1,
                    repetition_window,
                }
            },
        )
}

proptest! {
    /// The sampler must take the token at the generator's next number in the naive distribution.
    #[test]
    fn choices_are_those_of_the_definition(
        config in settings(),
        logits in prop::collection::vec(-8.0..8.0_f32, 1..600),
        accepted in prop::collection::vec(0..600_u32, 0..10),
        seed in any::<u64>(),
    ) {
        let n_logits = u32::try_from(logits.len()).unwrap();
        let accepted: Vec<u32> = accepted.into_iter().map(|id| id % n_logits).collect();
        let mut sampler = Sampler::new(config.clone(), seed).unwrap();
        for &id in &accepted {
            sampler.accept(id);
        }
        let recent = &accepted[accepted.len().saturating_sub(config.repetition_window)..];
        let distribution = naive_distribution(&config, recent, &logits);
        // Where nothing is cut off the sampler draws in the order of ids.
        let mut in_draw_order = distribution;
        if config.top_k == 0 && config.top_p == 1.0 {
            in_draw_order.sort_by_key(|(id, _)| *id);
        }
        for draw in 0..8 {
            let point = random(seed, draw) as f64 / 2.0_f64.powi(64);
            let mut sum = 0.0;
            let expected = in_draw_order.iter().find(|(_, probability)| {
                sum += probability;
                sum > point
            });
            prop_assert_eq!(sampler.sample(&logits).unwrap(), expected.unwrap().0);
        }
    }
}

/// Pearson's statistic of drawn tokens against probabilities.
fn chi_square(counts: &[u32], probabilities: &[f64]) -> f64 {
    let n_draws = f64::from(counts.iter().sum::<u32>());
    counts
        .iter()
        .zip(probabilities)
        .map(|(&count, probability)| {
            let expected = n_draws * probability;
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum()
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits = [1.0, -0.5, 2.0, 0.0, 0.7, -1.5, 1.2, 0.3_f32];
    let probabilities = |temperature: f64| {
        let weights = logits.map(|logit| (f64::from(logit) / temperature).exp());
        weights.map(|weight| weight / weights.iter().sum::<f64>())
    };
    for seed in 0..5 {
        let mut sampler = Sampler::new(at_temperature(0.7), seed).unwrap();
        let mut counts = [0; 8];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits).unwrap() as usize] += 1;
        }
        // Seven degrees of freedom: above 35 once in 100 000 times.
        let statistic = chi_square(&counts, &probabilities(0.7));
        assert!(statistic < 35.0, "seed {seed}: {statistic}");
        // A temperature that is off by a tenth would be seen.
        let statistic = chi_square(&counts, &probabilities(0.77));
        assert!(statistic > 35.0, "seed {seed}: {statistic}");
    }
}

#[test]
fn greedy_takes_the_best_and_of_equals_the_first() {
    assert_eq!(choose(greedy(), &[], &[0.0, 3.0, -1.0, 3.0]), 1);
    assert_eq!(choose(greedy(), &[], &[-5.0]), 0);
    assert_eq!(choose(greedy(), &[], &[-0.0, 0.0]), 0);
    assert_eq!(choose(greedy(), &[], &[f32::NEG_INFINITY, f32::MIN]), 1);
    let narrowest = [
        SamplerConfig {
            top_k: 1,
            ..at_temperature(5.0)
        },
        SamplerConfig {
            top_p: 1e-6,
            ..at_temperature(5.0)
        },
        SamplerConfig {
            min_p: 1.0,
            ..at_temperature(5.0)
        },
        at_temperature(1e-30),
    ];
    for config in narrowest {
        assert_eq!(choose(config, &[], &[0.0, 3.0, -1.0, 2.9]), 1);
    }
}

#[test]
fn masked_tokens_are_never_drawn() {
    let mut sampler = Sampler::new(at_temperature(100.0), 7).unwrap();
    let logits = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 2.0];
    for _ in 0..1000 {
        assert_eq!(sampler.sample(&logits).unwrap() % 2, 1);
    }
}

#[test]
fn the_penalty_counts_each_recent_token_once() {
    let penalty = |repetition_penalty, repetition_window| SamplerConfig {
        repetition_penalty,
        repetition_window,
        ..greedy()
    };
    // 3 / 1.4 > 2, however often the token occurred; 3 / 1.6 < 2.
    assert_eq!(choose(penalty(1.4, 64), &[0, 0, 0], &[3.0, 2.0]), 0);
    assert_eq!(choose(penalty(1.6, 64), &[0], &[3.0, 2.0]), 1);
    // A negative logit is multiplied.
    assert_eq!(choose(penalty(1.6, 64), &[0], &[-1.0, -1.5]), 1);
    assert_eq!(choose(penalty(1.4, 64), &[0], &[-1.0, -1.5]), 0);
    // Token 0 left the window of two.
    assert_eq!(choose(penalty(1.6, 2), &[0, 1, 1], &[3.0, 2.0]), 0);
    assert_eq!(choose(penalty(1.6, 3), &[0, 2, 2], &[3.0, 2.0, 0.0]), 1);
    // Below 1 a repetition is favoured.
    assert_eq!(choose(penalty(0.5, 64), &[1], &[3.0, 2.0]), 1);
    assert_eq!(choose(penalty(1.6, 0), &[0], &[3.0, 2.0]), 0);
}

#[test]
fn presence_counts_once_and_frequency_every_time() {
    let penalties = |presence_penalty, frequency_penalty| SamplerConfig {
        presence_penalty,
        frequency_penalty,
        ..greedy()
    };
    assert_eq!(choose(penalties(0.9, 0.0), &[0, 0, 0], &[3.0, 2.0]), 0);
    assert_eq!(choose(penalties(1.1, 0.0), &[0], &[3.0, 2.0]), 1);
    assert_eq!(choose(penalties(0.0, 0.4), &[0, 0], &[3.0, 2.0]), 0);
    assert_eq!(choose(penalties(0.0, 0.4), &[0, 0, 0], &[3.0, 2.0]), 1);
    // A forbidden token stays forbidden, whatever favours it; one that is favoured too much is not infinite.
    let logits = [f32::NEG_INFINITY, 2.0];
    assert_eq!(choose(penalties(-f32::MAX, 0.0), &[0], &logits), 1);
    assert_eq!(choose(penalties(f32::MAX, f32::MAX), &[1], &logits), 1);
    assert_eq!(choose(penalties(-f32::MAX, -f32::MAX), &[1], &logits), 1);
}

#[test]
fn a_seed_gives_one_sequence() {
    let logits: Vec<f32> = (0..100_u16).map(|id| f32::from(id % 7)).collect();
    let draws = |seed| -> Vec<u32> {
        let mut sampler = Sampler::new(at_temperature(1.0), seed).unwrap();
        (0..50).map(|_| sampler.sample(&logits).unwrap()).collect()
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
}

#[test]
fn settings_outside_their_range_are_named() {
    let refused = |config| Sampler::new(config, 0).unwrap_err().to_string();
    assert_eq!(
        refused(at_temperature(-0.5)),
        "sampler setting `temperature` is -0.5, allowed is a finite number from 0 up \
         (0 takes the most probable token)"
    );
    assert_eq!(
        refused(SamplerConfig {
            top_p: 1.5,
            ..greedy()
        }),
        "sampler setting `top_p` is 1.5, allowed is above 0 and up to 1 (1 turns it off)"
    );
    assert_eq!(
        refused(SamplerConfig {
            min_p: -0.1,
            ..greedy()
        }),
        "sampler setting `min_p` is -0.1, allowed is from 0 to 1 (0 turns it off)"
    );
    assert_eq!(
        refused(SamplerConfig {
            repetition_penalty: 0.0,
            ..greedy()
        }),
        "sampler setting `repetition_penalty` is 0, allowed is a finite number above 0 \
         (1 turns it off)"
    );
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(Sampler::new(at_temperature(bad), 0).is_err());
        assert!(
            Sampler::new(
                SamplerConfig {
                    top_p: bad,
                    ..greedy()
                },
                0
            )
            .is_err()
        );
        assert!(
            Sampler::new(
                SamplerConfig {
                    min_p: bad,
                    ..greedy()
                },
                0
            )
            .is_err()
        );
        assert!(
            Sampler::new(
                SamplerConfig {
                    repetition_penalty: bad,
                    ..greedy()
                },
                0
            )
            .is_err()
        );
    }
    assert!(
        Sampler::new(
            SamplerConfig {
                presence_penalty: f32::NAN,
                ..greedy()
            },
            0
        )
        .is_err()
    );
    assert!(
        Sampler::new(
            SamplerConfig {
                top_p: 0.0,
                ..greedy()
            },
            0
        )
        .is_err()
    );
}

#[test]
fn logits_that_give_no_token_are_errors() {
    for config in [greedy(), at_temperature(1.0)] {
        let mut sampler = Sampler::new(config, 0).unwrap();
        let mut refused = |logits: &[f32]| sampler.sample(logits).unwrap_err();
        assert_eq!(refused(&[]), SampleError::NoLogits);
        assert_eq!(
            refused(&[0.0, f32::NAN]).to_string(),
            "the logit of token 1 is NaN, expected a number or -inf"
        );
        assert_eq!(
            refused(&[f32::INFINITY, 0.0]),
            SampleError::BadLogit {
                id: 0,
                value: f32::INFINITY
            }
        );
        assert_eq!(
            refused(&[f32::NEG_INFINITY; 3]).to_string(),
            "all 3 logits are -inf, so no token is allowed"
        );
        assert_eq!(
            sampler.sample(&[1.0]),
            Ok(0),
            "an error leaves the sampler usable"
        );
    }
    let config = SamplerConfig {
        repetition_penalty: 1.1,
        ..greedy()
    };
    let mut sampler = Sampler::new(config, 0).unwrap();
    sampler.accept(5);
    assert_eq!(
        sampler.sample(&[0.0, 1.0]).unwrap_err().to_string(),
        "token 5 was accepted, but there are only 2 logits"
    );
}
