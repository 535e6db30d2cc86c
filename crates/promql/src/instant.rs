//! Functions that map the value of each sample, and nothing else.

use crate::math;

/// The function called `name`, if it takes nothing but an instant vector.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => sinh,
        "cosh" => cosh,
        "tanh" => f64::tanh,
        "asinh" => asinh,
        "acosh" => acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return crate::date::function(name),
    })
}

/// From here on Go takes the half of `exp` for both, which overflows a little earlier than the function itself.
const HALF_EXP_FROM: f64 = 21.0;

/// Go's `math.Sinh`.
fn sinh(v: f64) -> f64 {
    if v.abs() > HALF_EXP_FROM { (v.abs().exp() * 0.5).copysign(v) } else { v.sinh() }
}

/// Go's `math.Cosh`.
fn cosh(v: f64) -> f64 {
    if v.abs() > HALF_EXP_FROM { v.abs().exp() * 0.5 } else { v.cosh() }
}

/// Go's `math.Asinh`, whose branches differ from those of the standard library.
fn asinh(v: f64) -> f64 {
    if v.is_nan() || v.is_infinite() {
        return v;
    }
    let x = v.abs();
    let result = if x > 268_435_456.0 {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x)).ln()
    } else if x < 1.0 / 268_435_456.0 {
        x
    } else {
        (x + x * x / (1.0 + (1.0 + x * x).sqrt())).ln_1p()
    };
    result.copysign(v)
}

/// Go's `math.Acosh`.
fn acosh(v: f64) -> f64 {
    if v < 1.0 || v.is_nan() {
        f64::NAN
    } else if v == 1.0 {
        0.0
    } else if v >= 268_435_456.0 {
        v.ln() + std::f64::consts::LN_2
    } else if v > 2.0 {
        (2.0 * v - 1.0 / (v + (v * v - 1.0).sqrt())).ln()
    } else {
        let t = v - 1.0;
        (t + (2.0 * t + t * t).sqrt()).ln_1p()
    }
}

/// To the nearest multiple of `nearest`, halves up. Divides by the inverse, which is exact for `0.1` where a
/// multiplication is not.
pub(crate) fn round(v: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// `clamp`; the caller has checked that `low <= high` or one is NaN.
pub(crate) fn clamp(v: f64, low: f64, high: f64) -> f64 {
    math::max(low, math::min(high, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_mapped() {
        for (name, v, want) in [
            ("sgn", -3.0, -1.0),
            ("sgn", 0.0, 0.0),
            ("deg", std::f64::consts::PI, 180.0),
            ("acosh", 1.0, 0.0),
            ("asinh", 0.0, 0.0),
            ("year", 0.0, 1970.0),
            ("sinh", -710.0, f64::NEG_INFINITY),
            ("sinh", 0.0, 0.0),
            ("cosh", 710.0, f64::INFINITY),
            ("cosh", 0.0, 1.0),
        ] {
            assert_eq!(find(name).unwrap()(v), want, "{name}({v})");
        }
        for v in [0.1, 1.5, 3.0, 1e9, -0.1, -7.0] {
            assert!((asinh(v) - v.asinh()).abs() < 1e-12, "{v}");
            assert!(v < 1.0 || (acosh(v) - v.acosh()).abs() < 1e-12, "{v}");
        }
        assert!(find("sgn").unwrap()(f64::NAN).is_nan() && acosh(0.5).is_nan());
    }

    #[test]
    fn rounding_goes_up_at_halves() {
        for (v, nearest, want) in [(2.5, 1.0, 3.0), (-2.5, 1.0, -2.0), (5.2, 0.1, 5.2), (12.5, 5.0, 15.0)] {
            assert_eq!(round(v, nearest), want);
        }
    }
}
