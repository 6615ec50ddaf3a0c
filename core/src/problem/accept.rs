//! Proactive negotiation of a problem's format (RFC 9110, section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// The formats of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    ProblemJson,
    Json,
    Markdown,
}

impl Format {
    /// In the order of preference between equals.
    const ALL: [Self; 3] = [Self::ProblemJson, Self::Json, Self::Markdown];

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::ProblemJson => "application/problem+json",
            Self::Json => "application/json",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    const fn essence(self) -> (&'static str, &'static str) {
        match self {
            Self::ProblemJson => ("application", "problem+json"),
            Self::Json => ("application", "json"),
            Self::Markdown => ("text", "markdown"),
        }
    }
}

/// The format to answer in: the one with the highest weight.
///
/// A format's weight is that of the most specific range that matches it, so `q=0` excludes it also beside
/// `*/*`. Between equal weights the format that was named more exactly wins (`text/markdown, */*` asks for
/// Markdown), then problem+json before JSON before Markdown. When nothing is acceptable an error is still
/// better told than withheld: problem+json.
pub(super) fn negotiate(headers: &HeaderMap) -> Format {
    let ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| split_unquoted(line, ','))
        .filter_map(Range::parse)
        .collect();

    let mut best = (Format::ProblemJson, Match::default());
    for format in Format::ALL {
        let of_format = ranges
            .iter()
            .filter_map(|range| range.matching(format))
            .max_by_key(|found| (found.specificity, found.weight))
            .unwrap_or_default();
        let weight = (of_format.weight, of_format.specificity);
        if of_format.weight > 0 && weight > (best.1.weight, best.1.specificity) {
            best = (format, of_format);
        }
    }
    best.0
}

#[derive(Clone, Copy, Default)]
struct Match {
    /// In thousandths.
    weight: u16,
    specificity: Specificity,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    #[default]
    Any,
    Type,
    Subtype,
    Parameters,
}

/// One media range of an `Accept` field.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    /// Parameters before the weight.
    parameters: Vec<(&'a str, &'a str)>,
    weight: u16,
}

impl<'a> Range<'a> {
    /// `None` for what is not a media range, which is then as good as not sent.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split_unquoted(text, ';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let mut range = Self { main, sub, parameters: Vec::new(), weight: 1000 };
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            if name.eq_ignore_ascii_case("q") {
                range.weight = weight(value)?;
                // What follows the weight was never given a meaning (RFC 9110, section 12.5.1).
                break;
            }
            range.parameters.push((name, value.trim_matches('"')));
        }
        Some(range)
    }

    fn matching(&self, format: Format) -> Option<Match> {
        let (main, sub) = format.essence();
        let specificity = if (self.main, self.sub) == ("*", "*") {
            Specificity::Any
        } else if !self.main.eq_ignore_ascii_case(main) {
            return None;
        } else if self.sub == "*" {
            Specificity::Type
        } else if !self.sub.eq_ignore_ascii_case(sub) {
            return None;
        } else if self.parameters.is_empty() {
            Specificity::Subtype
        } else {
            Specificity::Parameters
        };
        // All three are UTF-8, said or not; another parameter asks for what none of them is.
        let is_ours = |(name, value): &(&str, &str)| {
            name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
        };
        self.parameters.iter().all(is_ours).then_some(Match { weight: self.weight, specificity })
    }
}

/// A weight in thousandths; `None` for what is not one (RFC 9110, section 12.4.2).
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// The parts of a list between separators that are not inside a quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |char| {
        if escaped {
            escaped = false;
        } else if quoted && char == '\\' {
            escaped = true;
        } else if char == '"' {
            quoted = !quoted;
        }
        char == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(lines: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn a_format_that_is_asked_for_is_given() {
        assert_eq!(of(&["text/markdown"]), Format::Markdown);
        assert_eq!(of(&["TEXT/Markdown"]), Format::Markdown);
        assert_eq!(of(&["application/json"]), Format::Json);
        assert_eq!(of(&["application/problem+json"]), Format::ProblemJson);
        assert_eq!(of(&["text/*"]), Format::Markdown);
        assert_eq!(of(&["text/html", "text/markdown;q=0.5"]), Format::Markdown, "two lines are one list");
        assert_eq!(of(&["application/json; charset=UTF-8"]), Format::Json);
        assert_eq!(of(&["text/markdown;charset=\"utf-8\""]), Format::Markdown);
    }

    #[test]
    fn everything_else_is_problem_json() {
        for lines in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"],
            &["image/png"],
            &["*/*;q=0"],
            &["text/markdown;q=0"],
            &["nonsense, /, ;;;, text"],
            &["text/markdown;charset=utf-16"],
            &["application/json;profile=x"],
        ] {
            assert_eq!(of(lines), Format::ProblemJson, "{lines:?}");
        }
    }

    #[test]
    fn the_highest_weight_wins() {
        assert_eq!(of(&["application/json;q=0.5, text/markdown;q=0.501"]), Format::Markdown);
        assert_eq!(of(&["application/problem+json;q=0.9, application/json"]), Format::Json);
        assert_eq!(of(&["text/markdown ; Q=0.1 , */* ; q=0.2"]), Format::ProblemJson);
        assert_eq!(of(&["text/markdown;q=0.3, application/*;q=0.2"]), Format::Markdown);
    }

    /// `q=0` on a specific range must hold against a wildcard that would let it in again.
    #[test]
    fn a_specific_range_overrides_a_wildcard() {
        assert_eq!(of(&["application/problem+json;q=0, */*"]), Format::Json);
        assert_eq!(of(&["*/*, application/*;q=0"]), Format::Markdown);
        assert_eq!(of(&["application/*;q=0.9, application/problem+json;q=0.1, text/*;q=0.2"]), Format::Json);
        assert_eq!(of(&["text/*, text/markdown;q=0, application/json;q=0.1"]), Format::Json);
        assert_eq!(
            of(&["text/markdown;q=0.1, text/markdown;charset=utf-8, application/json;q=0.5"]),
            Format::Markdown
        );
    }

    #[test]
    fn between_equals_the_exact_name_wins_and_then_our_order() {
        assert_eq!(of(&["text/markdown, application/json, application/problem+json"]), Format::ProblemJson);
        assert_eq!(of(&["text/markdown, application/json"]), Format::Json);
        // What agents and the usual JSON clients send.
        assert_eq!(of(&["text/markdown, text/html, */*"]), Format::Markdown);
        assert_eq!(of(&["application/json, text/plain, */*"]), Format::Json);
    }

    #[test]
    fn a_malformed_weight_is_as_if_the_range_was_not_sent() {
        for q in ["2", "1.001", "-1", "0.1234", "abc", "", ".5", "1.0000", "+0", "0,5"] {
            assert_eq!(of(&[&format!("text/markdown;q={q}")]), Format::ProblemJson, "{q:?}");
        }
        for q in ["1", "1.", "1.000", "0.001", "0.5"] {
            assert_eq!(of(&[&format!("text/markdown;q={q}")]), Format::Markdown, "{q:?}");
        }
        for q in ["0", "0.", "0.000"] {
            assert_eq!(of(&[&format!("text/markdown;q={q}")]), Format::ProblemJson, "{q:?}");
        }
    }

    #[test]
    fn a_separator_inside_quotes_separates_nothing() {
        assert_eq!(
            of(&[r#"image/png;x="a, text/markdown, \", text/markdown, b", application/json;q=0.5"#]),
            Format::Json
        );
        assert_eq!(of(&[r#"text/markdown;x=";q=0", application/json;q=0.1"#]), Format::Json);
    }
}
