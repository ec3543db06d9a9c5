//! Whether a number grows.

/// By how much `values` grow in each unit of `times`: the median of the slopes between every two of them (Theil and Sen), which a few
/// that lie far out do not move. Nothing grows in fewer than two.
pub(crate) fn slope(times: &[f64], values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(times.len() * times.len() / 2);
    for later in 0..times.len() {
        for earlier in 0..later {
            slopes.push((values[later] - values[earlier]) / (times[later] - times[earlier]));
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

#[test]
fn a_slope_is_found_beneath_noise_and_outliers() {
    let times: Vec<f64> = (0..200).map(|second| f64::from(second) / 60.0).collect();
    let noise = |second: usize| ((second * 7919) % 13) as f64 / 13.0;
    let with_slope = |slope: f64| -> Vec<f64> {
        let spike = |second: usize| if second.is_multiple_of(20) { 300.0 } else { 0.0 };
        times.iter().enumerate().map(|(second, time)| 50.0 + slope * time + noise(second) + spike(second)).collect()
    };
    for wanted in [0.0, 1.5, -2.0, 20.0] {
        let found = slope(&times, &with_slope(wanted));
        assert!((found - wanted).abs() < 0.3, "{found} instead of {wanted}");
    }
    assert!(slope(&[1.0], &[5.0]).abs() < f64::EPSILON);
}
