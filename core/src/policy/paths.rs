//! Which paths are guarded.

/// The paths whose requests are guarded, for services where the method does not say which requests need it: every call of
/// gRPC is a POST.
///
/// A name that ends in `/` stands for every path that begins with it (`/shop.Orders/`), any other for itself alone
/// (`/shop.Orders/Place`). Names are compared byte by byte with the path as it was sent, without the query; one that is
/// percent-encoded is another path, and so is one with another case, a slash more or less, or dot segments. Where
/// whoever is behind takes such paths for the same, name what is left out and nothing that anybody could respell, or
/// guard all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a list says what is in or what is out")]
pub enum Paths {
    /// Every path. The default.
    #[default]
    All,
    /// These, and no other: what is not named passes through unguarded.
    Only(Vec<String>),
    /// All but these, which pass through unguarded.
    Except(Vec<String>),
}

impl Paths {
    /// Whether requests to this path are guarded.
    pub fn cover(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| is_meant(name, path)),
            Self::Except(names) => !names.iter().any(|name| is_meant(name, path)),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let (Self::Only(names) | Self::Except(names)) = self else { return Ok(()) };
        if names.is_empty() {
            return Err("`paths` names no path: name one, or leave it out".into());
        }
        match names.iter().find(|name| !name.starts_with('/')) {
            Some(name) => Err(format!("`paths` names {name:?}: a path begins with `/`")),
            None => Ok(()),
        }
    }
}

fn is_meant(name: &str, path: &str) -> bool {
    if name.ends_with('/') { path.starts_with(name) } else { path == name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    /// `/shop.Orders/Place` must not guard `/shop.Orders/PlaceMany`, which may be a stream.
    #[test]
    fn a_name_means_itself_and_one_with_a_slash_what_is_below() {
        let listed = names(&["/shop.Orders/Place", "/shop.Payments/"]);
        let only = Paths::Only(listed.clone());
        let except = Paths::Except(listed);
        for (path, named) in [
            ("/shop.Orders/Place", true),
            ("/shop.Payments/Pay", true),
            ("/shop.Payments/", true),
            ("/shop.Payments", false),
            ("/shop.PaymentsOld/Pay", false),
            ("/shop.Orders/PlaceMany", false),
            ("/shop.Orders/place", false),
            ("/shop.Orders/Place/", false),
            ("/", false),
        ] {
            assert_eq!((only.cover(path), except.cover(path)), (named, !named), "{path}");
            assert!(Paths::All.cover(path));
        }
    }

    #[test]
    fn a_list_that_can_never_be_meant_is_refused() {
        for wrong in [names(&[]), names(&["shop.Orders/Place"]), names(&["/a", ""])] {
            assert!(Paths::Only(wrong.clone()).check().is_err(), "{wrong:?}");
            assert!(Paths::Except(wrong).check().is_err());
        }
        assert_eq!(Paths::All.check(), Ok(()));
        assert_eq!(Paths::Except(names(&["/"])).check(), Ok(()));
    }
}
