//! JSON values apart from their spelling: random ones, random spellings, and every small change of one.

use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// `digits` times ten to `power`; neither end of the digits is a zero, and there are none in zero.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    negative: bool,
    digits: String,
    power: i32,
}

pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let number = (any::<bool>(), "([1-9]([0-9]{0,20}[1-9])?)?", -30..400_i32).prop_map(number);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number,
        any_text().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::vec((any_text(), inner), 0..5).prop_map(Json::Object),
        ]
    })
}

/// Few letters, so that names meet; now and then long, so that objects become digests.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[ab]{0,2}", 4 => "[a\"\\\\/é😀\n\u{0}\u{7f}\u{feff}]{0,4}", 1 => "[a-c]{250,300}"]
}

fn number((negative, digits, power): (bool, String, i32)) -> Json {
    let zero = digits.is_empty();
    Json::Number(Number { negative: negative && !zero, digits, power: if zero { 0 } else { power } })
}

/// All values that differ from `value` in one place, and in meaning.
pub(crate) fn changes(value: &Json) -> Vec<Json> {
    let mut all = vec![Json::Array(vec![value.clone()]), Json::Null];
    match value {
        Json::Null => all.extend([Json::Bool(false), Json::Text("null".to_owned()), number(zero())]),
        Json::Bool(is) => all.extend([Json::Bool(!is), Json::Text(is.to_string())]),
        Json::Number(Number { negative, digits, power }) => {
            all.push(Json::Text(digits.clone()));
            all.push(number((*negative, format!("{digits}1"), *power)));
            if !digits.is_empty() {
                all.push(number((!negative, digits.clone(), *power)));
                all.push(number((*negative, digits.clone(), power + 1)));
                all.push(number((*negative, format!("1{digits}"), *power)));
                all.push(number(zero()));
            }
        }
        Json::Text(text) => {
            all.push(Json::Text(format!("{text}a")));
            all.push(Json::Text(text.chars().skip(1).collect()));
        }
        Json::Array(elements) => {
            all.push(Json::Array([elements.as_slice(), &[Json::Null]].concat()));
            all.extend(without_or_swapped(elements).map(Json::Array));
            all.extend(inside(elements, changes).map(Json::Array));
        }
        Json::Object(members) => {
            all.push(Json::Object([members.as_slice(), &[("new".to_owned(), Json::Null)]].concat()));
            all.extend(without_or_swapped(members).map(Json::Object));
            let member_changes = |(name, value): &(String, Json)| {
                let mut all = vec![(format!("{name}a"), value.clone())];
                all.extend(changes(value).into_iter().map(|value| (name.clone(), value)));
                all
            };
            all.extend(inside(members, member_changes).map(Json::Object));
        }
    }
    all.retain(|change| normal(change) != normal(value));
    all
}

fn zero() -> (bool, String, i32) {
    (false, String::new(), 0)
}

fn without_or_swapped<T: Clone>(items: &[T]) -> impl Iterator<Item = Vec<T>> {
    let without = (0..items.len()).map(|at| [&items[..at], &items[at + 1..]].concat());
    let swapped = (1..items.len()).map(|at| {
        let mut items = items.to_vec();
        items.swap(at - 1, at);
        items
    });
    without.chain(swapped)
}

fn inside<T: Clone>(items: &[T], change: impl Fn(&T) -> Vec<T>) -> impl Iterator<Item = Vec<T>> {
    items.iter().enumerate().flat_map(move |(at, item)| {
        change(item).into_iter().map(move |other| {
            let mut items = items.to_vec();
            items[at] = other;
            items
        })
    })
}

/// The value with its members in the order of their names.
fn normal(value: &Json) -> Json {
    match value {
        Json::Array(elements) => Json::Array(elements.iter().map(normal).collect()),
        Json::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), normal(value))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Json::Object(members)
        }
        other => other.clone(),
    }
}

/// How to spell a value where JSON leaves a choice: the same seed, the same choices.
pub(crate) struct Style(u64);

impl Style {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`, by xorshift.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n\t", "\r\n  "][self.below(6)]
    }
}

pub(crate) fn spell(value: &Json, style: &mut Style) -> String {
    let plain = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(is) => is.to_string(),
        Json::Number(number) => spell_number(number, style),
        Json::Text(text) => spell_text(text, style),
        Json::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(|element| spell(element, style)).collect();
            format!("[{}{}]", style.space(), elements.join(","))
        }
        Json::Object(members) => {
            let members: Vec<_> = shuffled(members, style)
                .into_iter()
                .map(|(name, value)| {
                    let (before, after) = (style.space(), style.space());
                    format!("{before}{}{after}:{}", spell_text(name, style), spell(value, style))
                })
                .collect();
            format!("{{{}{}}}", members.join(","), style.space())
        }
    };
    format!("{}{plain}{}", style.space(), style.space())
}

/// Any order that keeps members of one name in theirs.
fn shuffled<'a>(members: &'a [(String, Json)], style: &mut Style) -> Vec<&'a (String, Json)> {
    let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
    for at in (1..names.len()).rev() {
        names.swap(at, style.below(at + 1));
    }
    let mut left: Vec<_> = members.iter().collect();
    names
        .into_iter()
        .map(|name| left.remove(left.iter().position(|member| member.0 == *name).unwrap()))
        .collect()
}

fn spell_text(text: &str, style: &mut Style) -> String {
    let mut spelled = String::from('"');
    for character in text.chars() {
        let escape = character < ' ' || matches!(character, '"' | '\\');
        match (escape || style.below(4) == 0, character) {
            (false, _) => spelled.push(character),
            (true, '"' | '\\' | '/') if style.below(2) == 0 => spelled.extend(['\\', character]),
            (true, '\n') if style.below(2) == 0 => spelled.push_str("\\n"),
            (true, _) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let upper = style.below(2) == 0;
                    let digits = if upper { format!("{unit:04X}") } else { format!("{unit:04x}") };
                    spelled.push_str("\\u");
                    spelled.push_str(&digits);
                }
            }
        }
    }
    spelled.push('"');
    spelled
}

fn spell_number(Number { negative, digits, power }: &Number, style: &mut Style) -> String {
    let sign = if *negative { "-" } else { "" };
    if digits.is_empty() {
        return ["0", "-0", "0.0", "0e7", "-0.00E-3"][style.below(5)].to_owned();
    }
    let zeros = style.below(4);
    let digits = format!("{digits}{}", "0".repeat(zeros));
    let power = power - i32::try_from(zeros).unwrap();
    let point = style.below(digits.len() + 1);
    let (integer, fraction) = digits.split_at(point);
    let power = power + i32::try_from(fraction.len()).unwrap();
    let integer = if integer.is_empty() { "0" } else { integer };
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    let e = ["e", "E"][style.below(2)];
    match power {
        0 if style.below(2) == 0 => format!("{sign}{integer}{fraction}"),
        0.. => format!("{sign}{integer}{fraction}{e}{}{power}", ["", "+", "00"][style.below(3)]),
        _ => format!("{sign}{integer}{fraction}{e}-{}{}", ["", "0"][style.below(2)], power.abs()),
    }
}
