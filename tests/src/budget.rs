//! How long a campaign may take, as its command line says it.

use std::time::Duration;

/// Reads a duration as in `500ms`, `90s`, `10m`, or `90`, which are seconds.
///
/// ```
/// use harness::budget::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
/// assert!(duration("10h").is_err());
/// ```
///
/// # Errors
/// If it is anything else, or too long to be counted in milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        unit => return Err(format!("unknown unit {unit:?}: ms, s or m")),
    };
    let millis = number.checked_mul(unit).ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        let read = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(
            [read("7ms"), read("7"), read("7s"), read("7m")],
            [7, 7000, 7000, 420_000].map(Ok)
        );
        for wrong in ["", "s", "-1s", "1.5s", "7h", "18446744073709551615m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
