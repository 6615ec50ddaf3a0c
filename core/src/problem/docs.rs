use std::borrow::Cow;

use super::Code;

/// Where the problem pages are: the `type` of a problem is this base followed by its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docs(Cow<'static, str>);

impl Docs {
    const OWN: &'static str = "https://semel-rs.github.io/semel/problems/";

    /// A base of one's own. The code is put right behind it, so it ends in `/`, `#` or `=` as a rule.
    ///
    /// An error if it is empty or has a character that no URI has (RFC 3986).
    pub fn new(base: impl Into<String>) -> Result<Self, InvalidDocs> {
        let base = base.into();
        let of_a_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
        if base.is_empty() || !base.bytes().all(of_a_uri) {
            return Err(InvalidDocs);
        }
        Ok(Self(base.into()))
    }

    /// The `type` of a problem, where its page is.
    pub fn uri(&self, code: Code) -> String {
        format!("{}{code}", self.0)
    }
}

impl Default for Docs {
    fn default() -> Self {
        Self(Cow::Borrowed(Self::OWN))
    }
}

/// A base for problem pages that is no URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the base of the problem pages is not a URI: give one such as https://example.com/problems/")]
pub struct InvalidDocs;

#[cfg(test)]
mod tests {
    use super::*;

    /// A base with `>` or a line break would end the `Link` field early.
    #[test]
    fn a_base_that_breaks_a_field_is_refused() {
        for base in
            ["", "https://e.example/a b/", "https://e.example/>; rel=x", "https://e.example/\r\n", "ä/"]
        {
            assert_eq!(Docs::new(base), Err(InvalidDocs), "{base:?}");
        }
    }

    #[test]
    fn a_type_is_the_base_and_the_code() {
        let own = Docs::new("https://e.example/errors#").unwrap();
        assert_eq!(own.uri(Code::KeyReused), "https://e.example/errors#key-reused");
        assert_eq!(Docs::new(Docs::OWN).unwrap(), Docs::default());
    }
}
