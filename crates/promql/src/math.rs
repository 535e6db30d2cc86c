//! Arithmetic that has to come out as it does in Go and Prometheus, to the last bit.

pub(crate) use fk_model::kahan;

/// A running mean: a compensated sum as long as it does not overflow, an incremental mean from there on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    /// The sum, or the mean once `incremental`.
    value: f64,
    c: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn new(first: f64) -> Mean {
        Mean { value: first, c: 0.0, count: 1.0, incremental: false }
    }

    #[inline]
    pub(crate) fn add(&mut self, v: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, c) = kahan(v, self.value, self.c);
            if !sum.is_infinite() {
                (self.value, self.c) = (sum, c);
                return;
            }
            self.incremental = true;
            self.value /= self.count - 1.0;
            self.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.value, self.c) = kahan(v / self.count, q * self.value, q * self.c);
    }

    #[inline]
    pub(crate) fn get(&self) -> f64 {
        if self.incremental { self.value + self.c } else { self.value / self.count + self.c / self.count }
    }
}

/// Go's `math.Max`: NaN wins, except over +Inf.
#[inline]
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN wins, except over -Inf.
#[inline]
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

/// The order of `sort` and of quantiles: NaN is less than everything.
#[inline]
pub(crate) fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
        (a, b) => b.cmp(&a),
    }
}

/// Quantile `q` of the values, which get partly sorted, interpolated between neighbours.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    let (_, &mut low, above) = values.select_nth_unstable_by(lower as usize, |a, b| nan_first(*a, *b));
    let high = if upper > lower {
        above.iter().copied().min_by(|a, b| nan_first(*a, *b)).expect("upper is a valid index above lower")
    } else {
        low
    };
    low * (1.0 - weight) + high * weight
}

/// Whether both are equal up to a relative error (`util/almost` in Prometheus).
pub(crate) fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < epsilon * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < epsilon
}

/// Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest digits, never an exponent.
pub(crate) fn format_plain(v: f64) -> String {
    match v {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v}"),
    }
}

/// Go's `%g` of `fmt`: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_g(v: f64) -> String {
    if v == 0.0 || !v.is_finite() || (1e-4..1e6).contains(&v.abs()) {
        return format_plain(v);
    }
    with_go_exponent(&format!("{v:e}"))
}

/// Go's `%.2g`: two significant digits, trailing zeros cut off, an exponent below 1e-4 and from 1e2 on.
pub(crate) fn format_2g(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_plain(v);
    }
    let scientific = format!("{v:.1e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust writes an exponent with {:e}");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..2).contains(&exponent) {
        let text = format!("{v:.*}", (1 - exponent).max(0) as usize);
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    }
    with_go_exponent(&format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.')))
}

/// `1.5e7` as Go writes it: `1.5e+07`.
fn with_go_exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').expect("the caller formatted with an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_survives_overflow_of_the_sum() {
        let mut mean = Mean::new(1.5e308);
        (0..3).for_each(|_| mean.add(1.5e308));
        assert_eq!(mean.get(), 1.5e308);
        let mut mean = Mean::new(f64::INFINITY);
        mean.add(f64::NEG_INFINITY);
        assert!(mean.get().is_nan());
    }

    #[test]
    fn quantiles_interpolate_and_put_nan_first() {
        for (q, values, want) in [
            (0.5, vec![1.0, 0.0], 0.5),
            (0.8, vec![2.0, 0.0, 1.0], 1.6),
            (0.8, vec![4.0, 1.0, 0.0], 2.8),
            (0.0, vec![3.0, 1.0], 1.0),
            (1.0, vec![3.0, 1.0], 3.0),
            (0.8, vec![f64::NAN, 0.0, 1.0], 0.6000000000000001),
            (-1.0, vec![1.0], f64::NEG_INFINITY),
            (2.0, vec![1.0], f64::INFINITY),
        ] {
            let got = quantile(q, &mut values.clone());
            assert!(got == want || (got - want).abs() < 1e-12, "{q} of {values:?}: {got}");
        }
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan() && quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn floats_are_written_as_go_does() {
        for (v, plain, g, g2) in [
            (0.0, "0", "0", "0"),
            (-1.1, "-1.1", "-1.1", "-1.1"),
            (f64::NAN, "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (1234567.0, "1234567", "1.234567e+06", "1.2e+06"),
            (100.0, "100", "100", "1e+02"),
            (0.00001, "0.00001", "1e-05", "1e-05"),
            (1.256, "1.256", "1.256", "1.3"),
            (12.0, "12", "12", "12"),
        ] {
            assert_eq!((format_plain(v).as_str(), format_g(v).as_str(), format_2g(v).as_str()), (plain, g, g2));
        }
    }

    #[test]
    fn minimum_and_maximum_treat_nan_as_go_does() {
        assert!(max(f64::NAN, 3.0).is_nan() && min(3.0, f64::NAN).is_nan());
        assert_eq!(
            (max(f64::NAN, f64::INFINITY), min(f64::NAN, f64::NEG_INFINITY)),
            (f64::INFINITY, f64::NEG_INFINITY)
        );
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }
}
