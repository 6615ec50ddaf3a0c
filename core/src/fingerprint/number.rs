//! JSON numbers by their exact decimal value, never expanded and never through floating point.

/// The most digits of an exponent, leading zeros aside. The sum with any body's length fits an `i64`.
const EXPONENT_DIGITS: usize = 18;

/// A number as it is spelled: `integer . fraction e exponent`.
#[derive(Clone, Copy)]
pub(super) struct Number<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// `None` if it has too many digits.
    exponent: Option<i64>,
}

/// Reads the number that `input` begins with (RFC 8259, section 6), and how many bytes it takes.
pub(super) fn read(input: &[u8]) -> Option<(Number<'_>, usize)> {
    let mut at = 0;
    let negative = input.first() == Some(&b'-');
    at += usize::from(negative);

    let integer = digits(&input[at..])?;
    if integer.len() > 1 && integer[0] == b'0' {
        return None;
    }
    at += integer.len();

    let mut fraction: &[u8] = &[];
    if input.get(at) == Some(&b'.') {
        fraction = digits(&input[at + 1..])?;
        at += 1 + fraction.len();
    }

    let mut exponent = Some(0);
    if matches!(input.get(at), Some(b'e' | b'E')) {
        at += 1;
        let minus = input.get(at) == Some(&b'-');
        at += usize::from(matches!(input.get(at), Some(b'-' | b'+')));
        let spelled = digits(&input[at..])?;
        at += spelled.len();
        exponent = value(spelled).map(|value| if minus { -value } else { value });
    }
    Some((Number { negative, integer, fraction, exponent }, at))
}

impl Number<'_> {
    /// Appends the one form of this value: zero, or sign, digits without zeros at either end, and the power
    /// of ten of the last digit. `None` if the exponent has too many digits.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let (mut high, mut low) = (self.integer, self.fraction);
        let places = low.len();
        high = without_leading_zeros(high);
        if high.is_empty() {
            low = without_leading_zeros(low);
        }
        let mut dropped = low.len();
        low = without_trailing_zeros(low);
        dropped -= low.len();
        if low.is_empty() {
            dropped += high.len();
            high = without_trailing_zeros(high);
            dropped -= high.len();
        }
        if high.is_empty() && low.is_empty() {
            out.push(b'0');
            return Some(());
        }
        let shift = i64::try_from(dropped).ok()?.checked_sub(i64::try_from(places).ok()?)?;
        let power = self.exponent?.checked_add(shift)?;

        out.push(if self.negative { b'-' } else { b'+' });
        varint((high.len() + low.len()) as u64, out);
        out.extend_from_slice(high);
        out.extend_from_slice(low);
        // Zigzag: small powers of either sign take one byte.
        varint(((power << 1) ^ (power >> 63)).cast_unsigned(), out);
        Some(())
    }
}

/// Appends a number of any size in a form that no other number's form begins with (LEB128).
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// The digits that `input` begins with; `None` if there are none.
fn digits(input: &[u8]) -> Option<&[u8]> {
    let end = input.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(input.len());
    (end > 0).then(|| &input[..end])
}

fn value(spelled: &[u8]) -> Option<i64> {
    let digits = without_leading_zeros(spelled);
    (digits.len() <= EXPONENT_DIGITS)
        .then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len())..]
}

fn without_trailing_zeros(digits: &[u8]) -> &[u8] {
    &digits[..digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<Vec<u8>> {
        let (number, length) = read(text.as_bytes())?;
        let mut out = Vec::new();
        assert_eq!(length, text.len());
        number.write(&mut out)?;
        Some(out)
    }

    #[test]
    fn a_value_has_one_form() {
        for equal in [
            &[
                "1",
                "1.0",
                "1e0",
                "10e-1",
                "0.1e1",
                "1E+0",
                "0.00001e5",
                "100e-002",
                "1.000e0000000000000000000000",
            ][..],
            &["0", "-0", "0.0", "0e9", "-0.000E-7", "0e99999999999999999999999999"],
            &["-120", "-1.2e2", "-12e1", "-0.12e3", "-120.00"],
            &["0.05", "5e-2", "50e-3", "0.050"],
            &["1e400", "10e399", "0.1e401"],
            &["100200", "1002e2", "1.00200e5"],
            &["1e999999999999999999", "10e999999999999999998"],
        ] {
            for other in equal {
                assert_eq!(form(equal[0]).unwrap(), form(other).unwrap(), "{} and {other}", equal[0]);
            }
        }
    }

    // The first two pairs are equal as f64: a charge of one would have been answered with the other's.
    #[test]
    fn other_values_have_other_forms() {
        let distinct = [
            "9007199254740992",
            "9007199254740993",
            "0.1",
            "0.1000000000000000055511151231257827",
            "1e400",
            "1e401",
            "-1e400",
            "1e-400",
            "0",
            "1",
            "-1",
            "10",
            "0.01",
            "12",
            "21",
            "102",
            "120",
            "1e64",
            "1e-64",
        ];
        for (at, one) in distinct.iter().enumerate() {
            for other in &distinct[..at] {
                assert_ne!(form(one).unwrap(), form(other).unwrap(), "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_is_no_number_or_too_far_away_has_no_form() {
        for text in
            ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "1.e1", "NaN", "1e1000000000000000000"]
        {
            assert_eq!(form(text), None, "{text}");
        }
    }

    // Forms are written one after another: none may begin with another.
    #[test]
    fn varints_are_free_of_prefixes() {
        let forms: Vec<_> = [0, 1, 127, 128, 129, 16_383, 16_384, u64::MAX]
            .into_iter()
            .map(|value| {
                let mut out = Vec::new();
                varint(value, &mut out);
                out
            })
            .collect();
        for (at, one) in forms.iter().enumerate() {
            assert!(
                forms.iter().enumerate().all(|(other_at, other)| at == other_at || !other.starts_with(one))
            );
        }
    }
}
