//! Sums that keep what rounding loses.

/// Adds `inc` to the sum, with Neumaier's compensation in `c` (`util/kahansum` in Prometheus). What is wanted in the end is
/// `sum + c`.
#[inline]
pub fn kahan(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    // Both are computed and one is chosen, which compiles to code without branches.
    let (sum_larger, inc_larger) = ((sum - t) + inc, (inc - t) + sum);
    let lost = if sum.abs() >= inc.abs() { sum_larger } else { inc_larger };
    (t, if t.is_infinite() { 0.0 } else { c + lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compensation_saves_small_summands() {
        let (sum, c) = [1.0, 1e100, 1.0, -1e100].into_iter().fold((0.0, 0.0), |(s, c), v| kahan(v, s, c));
        assert_eq!(sum + c, 2.0);
    }
}
