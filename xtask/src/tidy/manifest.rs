//! Rules over the crates' manifests.

use super::{Finding, Tree};

/// A crate of this workspace, and how high it stands. A crate uses only what stands below it.
const CRATES: &[(&str, u8)] = &[
    ("semel-core", 0),
    // The other half: it stands beside all of this, and uses none of it.
    ("semel-client", 0),
    // What stores have in common stands below all of them.
    ("semel-store-kit", 1),
    ("semel-store-memory", STORE),
    ("semel-store-sqlite", STORE),
    ("semel-store-layers", STORE),
    ("semel-driver", 2),
    ("semel-tower", 3),
    ("semel-actix", 3),
    ("semel-openapi", 3),
    ("semel-rocket", 3),
    ("semel-gateway", 4),
    ("semel", 5),
    ("semel-cli", 6),
    // What proves it may use all of it, and nothing that ships may use the proof.
    ("semel-conformance", 7),
    ("semel-testkit", 8),
    ("semel-e2e", EXAMPLE),
    ("semel-bench", EXAMPLE),
    ("semel-book", EXAMPLE),
    ("semel-torture", EXAMPLE),
    ("semel-example-axum-hello", EXAMPLE),
    ("semel-example-axum-payments", EXAMPLE),
    ("semel-example-reconcile", EXAMPLE),
    ("semel-example-tokio-postgres", EXAMPLE),
    ("xtask", 10),
];

/// Where every store stands.
const STORE: u8 = 2;
/// On top of all that ships.
const EXAMPLE: u8 = 9;

/// `Idempotency::test()` gives users a store for their own tests. It is optional, so a server does not carry it.
const EXCEPTION: (&str, &str) = ("semel-driver", "semel-store-memory");

/// Where a clock, a socket or a task could come in.
const NOT_IN_CORE: &[&str] =
    &["tokio", "futures", "async-", "hyper", "mio", "socket2", "rustix", "getrandom", "jiff", "tracing"];

/// Crates depend on what stands below them only, and core on nothing that performs I/O. Tests may use anything.
pub(crate) fn dependencies_point_down(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in manifests(tree) {
        let Some(name) = package(text) else { continue };
        let Some(height) = height(name) else {
            add(
                findings,
                path,
                1,
                format!("{name} has no place in the list of crates (xtask/src/tidy/manifest.rs)"),
            );
            continue;
        };
        for Dependency { line, name: on, rest } in dependencies(text, false) {
            if name == "semel-core" && NOT_IN_CORE.iter().any(|not| on.starts_with(not)) {
                add(findings, path, line, format!("core uses {on}, and core is sans-IO"));
            }
            let Some(below) = self::height(on) else { continue };
            let excepted = (name, on) == EXCEPTION && rest.contains("optional = true");
            if below >= height && !excepted {
                add(findings, path, line, format!("{name} uses {on}, which does not stand below it"));
            }
        }
    }
}

/// A version in two places is two versions one day.
pub(crate) fn versions_stand_in_the_root(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in manifests(tree) {
        for Dependency { line, name, rest } in dependencies(text, true) {
            if !rest.contains("workspace = true") && !rest.contains("path = \".\"") {
                add(
                    findings,
                    path,
                    line,
                    format!("the version of {name} belongs into the root's Cargo.toml"),
                );
            }
        }
    }
}

/// A crate without them is a crate without rules.
pub(crate) fn workspace_lints(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in manifests(tree) {
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
        if lines.next() != Some("workspace = true") {
            add(findings, path, 1, "has no `[lints] workspace = true`");
        }
    }
}

/// A feature that no front page names is found by nobody. The facade has a section for each.
pub(crate) fn features_are_told(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in manifests(tree).filter(|(_, text)| !text.contains("publish = false")) {
        let page = format!("{}src/lib.rs", path.trim_end_matches("Cargo.toml"));
        // A program says what it can by `--help`.
        let Some(source) = tree.get(&page) else { continue };
        let front: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let is_facade = package(text) == Some("semel");
        let section = text.lines().skip_while(|line| *line != "[features]").skip(1);
        for feature in section.take_while(|line| !line.starts_with('[')) {
            let Some((name, _)) = feature.split_once(" = ").filter(|(name, _)| *name != "default") else {
                continue;
            };
            let told = if is_facade { format!(" # {name}") } else { format!("`{name}`") };
            if !front.iter().any(|line| if is_facade { **line == told } else { line.contains(&told) }) {
                add(findings, &page, 1, format!("says nothing of the feature {name}"));
            }
        }
    }
}

struct Dependency<'a> {
    line: usize,
    name: &'a str,
    /// All but the name.
    rest: &'a str,
}

fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.files().filter(|(path, _)| path.ends_with("/Cargo.toml"))
}

fn package(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

fn height(name: &str) -> Option<u8> {
    let listed = CRATES.iter().find(|(known, _)| *known == name).map(|(_, height)| *height);
    let (store, example) = (name.starts_with("semel-store-"), name.starts_with("semel-example-"));
    listed.or(store.then_some(STORE)).or(example.then_some(EXAMPLE))
}

/// As these manifests write them: one a line.
fn dependencies(text: &str, with_tests: bool) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let kind = section.trim_end_matches(']').rsplit('.').next().unwrap_or_default();
            inside = matches!(kind, "dependencies" | "build-dependencies")
                || with_tests && kind == "dev-dependencies";
        } else if inside
            && !line.starts_with('#')
            && let Some(end) = line.find([' ', '.', '='])
        {
            found.push(Dependency { line: index + 1, name: &line[..end], rest: &line[end..] });
        }
    }
    found
}

fn add(findings: &mut Vec<Finding>, path: &str, line: usize, what: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    const UP: &[(&str, &str, &str)] = &[
        ("semel-core", "semel-driver.workspace = true", "core on driver"),
        ("semel-core", "tokio.workspace = true", "core on a runtime"),
        ("semel-tower", "semel-gateway = { workspace = true }", "host on gateway"),
        ("semel-store-sqlite", "semel-store-memory.workspace = true", "store on store"),
        ("semel-gateway", "semel-testkit.workspace = true", "what ships on the proof"),
        ("semel-store-new", "semel-store-sqlite.workspace = true", "a store that is not listed on a store"),
        ("semel-driver", "semel-store-memory.workspace = true", "the exception, always on"),
    ];

    #[test]
    fn a_dependency_that_points_up_is_found() {
        for (name, line, what) in UP {
            let text = format!("name = \"{name}\"\n[dependencies]\n{line}");
            assert_eq!(
                found(dependencies_point_down, &[("a/Cargo.toml", &text)]),
                ["a/Cargo.toml:3"],
                "{what}"
            );
            let unix = format!("name = \"{name}\"\n[target.'cfg(unix)'.dependencies]\n{line}");
            assert_eq!(
                found(dependencies_point_down, &[("a/Cargo.toml", &unix)]).len(),
                1,
                "{what}, on unix"
            );
            let tests = format!("name = \"{name}\"\n[dev-dependencies]\n{line}");
            assert!(
                found(dependencies_point_down, &[("a/Cargo.toml", &tests)]).is_empty(),
                "{what}, in tests"
            );
        }
        let fine = "name = \"semel-driver\"\n[dependencies]\nsemel-core.workspace = true\n\
                    semel-store-memory = { workspace = true, optional = true }";
        assert!(found(dependencies_point_down, &[("a/Cargo.toml", fine)]).is_empty());
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(found(dependencies_point_down, &[("a/Cargo.toml", "name = \"semel-new\"")]).len(), 1);
    }

    #[test]
    fn a_version_outside_the_root_is_found() {
        for bad in ["http = \"1\"", "http = { version = \"1\" }", "semel-core = { path = \"../core\" }"] {
            for section in ["dependencies", "dev-dependencies"] {
                let text = format!("[{section}]\n{bad}");
                assert_eq!(found(versions_stand_in_the_root, &[("a/Cargo.toml", &text)]), ["a/Cargo.toml:2"]);
            }
        }
        let root = "[workspace.dependencies]\nhttp = \"1\"";
        assert!(found(versions_stand_in_the_root, &[("Cargo.toml", root)]).is_empty());
        let fine = "[dependencies]\nhttp.workspace = true\nh = { workspace = true, features = [\"a\"] }";
        assert!(found(versions_stand_in_the_root, &[("a/Cargo.toml", fine)]).is_empty());
    }

    #[test]
    fn missing_lints_are_found() {
        assert_eq!(found(workspace_lints, &[("a/Cargo.toml", "[package]")]).len(), 1);
        assert_eq!(found(workspace_lints, &[("a/Cargo.toml", "[lints]\nworkspace = false")]).len(), 1);
        assert!(found(workspace_lints, &[("a/Cargo.toml", "[lints]\nworkspace = true")]).is_empty());
    }

    #[test]
    fn a_feature_that_no_front_page_names_is_found() {
        let features = "\n[features]\n# Said.\ndefault = []\ntls = []\n\n[dependencies]\na = \"1\"\n";
        let facade = format!("[package]\nname = \"semel\"{features}");
        let store = format!("[package]\nname = \"semel-store-x\"{features}");
        let found_in = |facade_page: &str, store_page: &str| {
            let files = [
                ("semel/Cargo.toml", facade.as_str()),
                ("semel/src/lib.rs", facade_page),
                ("stores/x/Cargo.toml", store.as_str()),
                ("stores/x/src/lib.rs", store_page),
            ];
            found(features_are_told, &files)
        };
        assert!(found_in("//! a\n//! # tls\n", "//! with `tls`\n").is_empty());
        assert_eq!(found_in("//! `tls`\n", "//! x\npub use y; // `tls`\n").len(), 2);
    }
}
