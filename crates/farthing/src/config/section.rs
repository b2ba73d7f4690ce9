//! Reading one table of the tenant file: each field is asked for once by its name and type, and what nobody asked for
//! is unknown. A field that is missing or wrong reads as `None` after its mistake has been added to the problems.
//!
//! It knows TOML and spelling, and nothing of what the fields mean.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use engine::money::AmountError;
use engine::{Asset, Micros, Money, Rate};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problems, suggestion};

/// How names are spelled.
pub(crate) struct NamePattern {
    /// In words, for the error.
    words: &'static str,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
}

impl NamePattern {
    /// `[a-z0-9][a-z0-9_-]{0,62}`
    pub(crate) const SLUG: Self = Self {
        words: "begin with a small letter or a digit, then small letters, digits, `_` and `-`",
        first: |letter| letter.is_ascii_lowercase() || letter.is_ascii_digit(),
        rest: |letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '_' | '-'),
    };
    /// `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`
    pub(crate) const CODE: Self = Self {
        words: "begin with a letter or a digit, then letters, digits, `_` and `-`",
        first: |letter| letter.is_ascii_alphanumeric(),
        rest: |letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'),
    };
    /// `[a-z][a-z0-9_]{0,62}`
    pub(crate) const METER: Self = Self {
        words: "begin with a small letter, then small letters, digits and `_`",
        first: |letter| letter.is_ascii_lowercase(),
        rest: |letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_',
    };
    /// `[A-Za-z][A-Za-z0-9_]{0,62}`
    pub(crate) const WORD: Self = Self {
        words: "begin with a letter, then letters, digits and `_`",
        first: |letter| letter.is_ascii_alphabetic(),
        rest: |letter| letter.is_ascii_alphanumeric() || letter == '_',
    };

    const LONGEST: usize = 63;

    fn fits(&self, name: &str) -> bool {
        let mut letters = name.chars();
        letters.next().is_some_and(self.first) && letters.all(self.rest) && name.len() <= Self::LONGEST
    }
}

const LONGEST_TITLE: usize = 200;
const MOST_INTEGERS: usize = 20;
/// The most names that a table may have whose names are the file's own.
const MOST_NAMES: usize = 1_000;
/// Percent in picos.
const HUNDRED: i128 = 100 * 1_000_000_000_000;

/// A plain value of a field.
pub(crate) enum Scalar<'a> {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Text that is not empty.
    Text(&'a str),
}

/// A noun as a sentence has it.
pub(crate) fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
/// The value of an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A table of the file, being read.
pub(crate) struct Section<'a> {
    /// What errors call it.
    pub(crate) what: &'static str,
    /// The byte it begins at.
    pub(crate) at: usize,
    /// Where mistakes go.
    pub(crate) problems: &'a Problems,
    fields: &'a DeTable<'a>,
    environment: Environment<'a>,
    asked: Vec<Cow<'static, str>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(fields: &'a DeTable<'a>, problems: &'a Problems, environment: Environment<'a>) -> Self {
        Self { what: "the file", at: 0, problems, fields, environment, asked: Vec::new() }
    }

    /// Whether the field is there, of whatever type.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// A field that must be there; read it afterwards.
    pub(crate) fn require(&mut self, field: &'static str, example: &str) {
        if !self.has(field) {
            self.problems.add(
                self.at,
                format!("{} has no `{field}`", self.what),
                format!("add one, as in `{example}`"),
            );
        }
    }

    /// A field that has no place here although it has one elsewhere.
    pub(crate) fn refuse(&mut self, field: &'static str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.asked.push(field.into());
        if let Some((name, _)) = self.fields.get_key_value(field) {
            self.problems.add(name.span().start, problem, remedy);
        }
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, field: &'static str) -> Option<Spanned<&'a str>> {
        let value = self.value(field)?;
        self.as_text(field, value)
    }

    /// A text that is kept as it is.
    pub(crate) fn string(&mut self, field: &'static str) -> Option<String> {
        self.text(field).map(|text| (*text.get_ref()).to_owned())
    }

    /// A name. One that is spelled wrong is read all the same, so that what refers to it is not wrong too.
    pub(crate) fn name(&mut self, field: &'static str, pattern: &NamePattern) -> Option<Spanned<&'a str>> {
        let name = self.text(field)?;
        self.check_name(field, &name, pattern);
        Some(name)
    }

    /// Whether a name is spelled as it must be.
    pub(crate) fn check_name(&self, field: &str, name: &Spanned<&str>, pattern: &NamePattern) {
        if !pattern.fits(name.get_ref()) {
            let problem = format!("`{}` cannot be a {field} in {}", name.get_ref(), self.what);
            self.problems.add(name.span().start, problem, format!("{}, 63 in all at the most", pattern.words));
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, field: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(field)?;
        let chosen = choices.iter().find(|(name, _)| name == word.get_ref()).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let problem = format!("`{field}` in {} is `{}`", self.what, word.get_ref());
            self.problems.add(word.span().start, problem, suggestion(word.get_ref(), choices.iter().map(|c| c.0)));
        }
        chosen
    }

    /// `true` or `false`; false where nothing is said.
    pub(crate) fn flag(&mut self, field: &'static str) -> bool {
        self.flag_or(field, false)
    }

    /// `true` or `false`; the usual where nothing is said.
    pub(crate) fn flag_or(&mut self, field: &'static str, usual: bool) -> bool {
        let Some(value) = self.value(field) else { return usual };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(field, value, "true or false", format!("write `{field} = {}` or leave it out", !usual));
            usual
        })
    }

    /// What people read of something; its name where nothing is said.
    pub(crate) fn title(&mut self) -> Option<&'a str> {
        let title = self.text("title")?;
        if title.get_ref().chars().count() > LONGEST_TITLE {
            let problem = format!("the title of {} is too long", with_article(self.what));
            self.problems.add(title.span().start, problem, format!("keep it to {LONGEST_TITLE} characters"));
        }
        Some(title.into_inner())
    }

    /// A whole number within a range.
    pub(crate) fn integer(&mut self, field: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(field)?;
        let number = self.as_integer(field, value, &range);
        let own = self.own_number(field, |text| text.parse().ok().filter(|number| range.contains(number)));
        own.or(number)
    }

    /// A list of whole numbers within a range; nothing where it is left out.
    pub(crate) fn integers(&mut self, field: &'static str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let value = self.value(field)?;
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(field, value, "a list of whole numbers", format!("write `{field} = [{}]`", range.start()));
            return None;
        };
        if list.len() > MOST_INTEGERS {
            let problem = format!("{} has {} `{field}`", self.what, list.len());
            self.problems.add(value.span().start, problem, format!("keep to {MOST_INTEGERS}"));
        }
        Some(list.iter().filter_map(|item| self.as_integer(field, item, &range)).collect())
    }

    fn as_integer(&self, field: &str, value: &'a Spanned<DeValue<'a>>, range: &RangeInclusive<i64>) -> Option<i64> {
        let (least, most) = (range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(field, value, "a whole number", format!("write a number from {least} to {most}"));
            return None;
        };
        let number =
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let problem = format!("`{field}` in {} is {integer}", self.what);
            self.problems.add(value.span().start, problem, format!("it must be from {least} to {most}"));
        }
        number
    }

    /// A unit price: at least zero.
    pub(crate) fn rate(&mut self, field: &'static str) -> Option<Rate> {
        let digits = "keep to twelve digits after the point, or use `per` to price many units at once";
        let value = self.value(field)?;
        let rate = self.as_decimal(field, value, digits, "it must be from 0 to 1000000000").map(Spanned::into_inner);
        self.own_number(field, |text| text.parse().ok()).or(rate)
    }

    /// A part of a hundred, up to all of it and above nothing.
    pub(crate) fn percent(&mut self, field: &'static str) -> Option<Rate> {
        let value = self.value(field)?;
        let remedy = "it must be above 0 and at most 100";
        let percent: Spanned<Rate> = self.as_decimal(field, value, "keep to twelve digits after the point", remedy)?;
        if *percent.get_ref() == Rate::ZERO || percent.get_ref().picos() > HUNDRED {
            let problem = format!("`{field}` in {} is {}", self.what, percent.get_ref());
            self.problems.add(percent.span().start, problem, remedy);
            return None;
        }
        Some(percent.into_inner())
    }

    /// An amount that is paid in a currency, in whole minor units of it.
    pub(crate) fn money(&mut self, field: &'static str, least: Micros, currency: Option<&Asset>) -> Option<Money> {
        let amount = self.micros(field, least)?;
        self.in_coins(&amount, currency?)
    }

    /// An amount in whole minor units of its currency.
    pub(crate) fn in_coins(&self, amount: &Spanned<Micros>, currency: &Asset) -> Option<Money> {
        let money = Money::exactly(*amount.get_ref(), currency).ok();
        if money.is_none() {
            let problem = format!("{} cannot be paid in {currency}", amount.get_ref());
            self.problems.add(amount.span().start, problem, "keep to the currency's smallest coin");
        }
        money
    }

    /// A table of amounts by currency.
    pub(crate) fn money_by_currency(&mut self, field: &'static str) -> Vec<Money> {
        let mut amounts = Vec::new();
        for (name, value) in self.table(field, "{ USD = \"0.50\" }") {
            let currency = self.as_currency(&name);
            let amount = self.as_micros(name.get_ref(), value, Micros::ZERO);
            let Some((currency, amount)) = currency.zip(amount) else { continue };
            amounts.extend(self.in_coins(&amount, currency.get_ref()));
        }
        amounts
    }

    /// A table of amounts or quantities of at least nothing, by name.
    pub(crate) fn micros_by_name(&mut self, field: &'static str) -> Vec<(Spanned<&'a str>, Micros)> {
        let mut amounts = Vec::new();
        for (name, value) in self.table(field, "{ USD = \"5\" }") {
            let amount = self.as_micros(name.get_ref(), value, Micros::ZERO);
            amounts.extend(amount.map(|amount| (name, amount.into_inner())));
        }
        amounts
    }

    /// A table of true and false, whole numbers and texts, in the order of their names.
    pub(crate) fn scalars(&mut self, field: &'static str) -> Vec<(Spanned<&'a str>, Scalar<'a>)> {
        let mut scalars = Vec::new();
        for (name, value) in self.table(field, "{ name = true }") {
            let scalar = match value.get_ref() {
                DeValue::Boolean(flag) => Some(Scalar::Flag(*flag)),
                DeValue::Integer(_) => {
                    self.as_integer(name.get_ref(), value, &(i64::MIN..=i64::MAX)).map(Scalar::Integer)
                }
                DeValue::String(_) => self.as_text(name.get_ref(), value).map(|t| Scalar::Text(t.into_inner())),
                _ => {
                    let remedy = "write true, false, a whole number, or text in quotes".to_owned();
                    self.wrong_type(name.get_ref(), value, "true or false, a whole number or text", remedy);
                    None
                }
            };
            scalars.extend(scalar.map(|scalar| (name, scalar)));
        }
        scalars
    }

    /// An amount or a quantity of at least `least` micros.
    pub(crate) fn micros(&mut self, field: &'static str, least: Micros) -> Option<Spanned<Micros>> {
        let value = self.value(field)?;
        let amount = self.as_micros(field, value, least);
        let own = self.own_number(field, |text| text.parse().ok().filter(|amount| *amount >= least));
        own.map(|own| Spanned::new(value.span(), own)).or(amount)
    }

    fn as_micros(&self, field: &str, value: &'a Spanned<DeValue<'a>>, least: Micros) -> Option<Spanned<Micros>> {
        let digits = "keep to six digits after the point";
        let amount: Spanned<Micros> = self.as_decimal(field, value, digits, "it must be below 9000000000000")?;
        if *amount.get_ref() < least {
            let remedy = if least.is_zero() { "it must be at least 0" } else { "it must be above 0" };
            let problem = format!("`{field}` in {} is {}", self.what, amount.get_ref());
            self.problems.add(amount.span().start, problem, remedy);
            return None;
        }
        Some(amount)
    }

    /// A currency by its ISO 4217 code.
    pub(crate) fn currency(&mut self, field: &'static str) -> Option<Spanned<Asset>> {
        let code = self.text(field)?;
        self.as_currency(&code)
    }

    /// A currency; the usual one where nothing is said, and none where what is said is wrong.
    pub(crate) fn currency_or(&mut self, field: &'static str, usual: Option<&Asset>) -> Option<Asset> {
        let own = self.currency(field).map(Spanned::into_inner);
        if self.has(field) { own } else { usual.cloned() }
    }

    fn as_currency(&self, code: &Spanned<&str>) -> Option<Spanned<Asset>> {
        let asset = Asset::new(code.get_ref());
        if asset.currency().is_some() {
            return Some(Spanned::new(code.span(), asset));
        }
        let capitals = Asset::new(&code.get_ref().to_ascii_uppercase());
        let remedy = if capitals.currency().is_some() {
            format!("did you mean `{capitals}`?")
        } else {
            "use an ISO 4217 code such as `USD`, `EUR` or `JPY`".to_owned()
        };
        self.problems.add(code.span().start, format!("unknown currency `{}` in {}", code.get_ref(), self.what), remedy);
        None
    }

    /// A list of different texts; empty where nothing is said.
    pub(crate) fn texts(&mut self, field: &'static str) -> Vec<Spanned<&'a str>> {
        let Some(value) = self.value(field) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(field, value, "a list of texts", format!("write `{field} = [\"...\"]`"));
            return Vec::new();
        };
        let mut texts: Vec<Spanned<&str>> = Vec::new();
        for text in list.iter().filter_map(|item| self.as_text(field, item)) {
            if texts.iter().any(|other| other.get_ref() == text.get_ref()) {
                let problem = format!("`{}` is twice in `{field}` of {}", text.get_ref(), self.what);
                self.problems.add(text.span().start, problem, "leave one out");
            } else {
                texts.push(text);
            }
        }
        texts
    }

    /// A table of texts, in the order of their names.
    pub(crate) fn map(&mut self, field: &'static str) -> Vec<(Spanned<&'a str>, Spanned<&'a str>)> {
        let pairs = self.table(field, "{ name = \"value\" }").into_iter();
        pairs.filter_map(|(name, value)| self.as_text(name.get_ref(), value).map(|value| (name, value))).collect()
    }

    /// The fields of a table whose names are the file's own, in their order.
    fn table(&mut self, field: &'static str, example: &str) -> Vec<(Spanned<&'a str>, &'a Spanned<DeValue<'a>>)> {
        let Some(value) = self.value(field) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(field, value, "a table", format!("write `{field} = {example}`"));
            return Vec::new();
        };
        if table.len() > MOST_NAMES {
            let problem = format!("`{field}` in {} has {} names", self.what, table.len());
            self.problems.add(value.span().start, problem, format!("keep to {MOST_NAMES}"));
        }
        let pair = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: Spanned<&'a str> = Spanned::new(name.span(), AsRef::<std::borrow::Cow<'a, str>>::as_ref(name));
            (name, value)
        };
        table.iter().map(pair).collect()
    }

    /// A table below this one.
    pub(crate) fn section(&mut self, field: &'static str, what: &'static str) -> Option<Self> {
        self.asked.push(field.into());
        let (name, value) = self.fields.get_key_value(field)?;
        if let Some(fields) = value.get_ref().as_table() {
            return Some(self.of(what, value.span().start.min(name.span().start), fields));
        }
        let whole = if self.what == "the file" { format!("[{field}]") } else { format!("{field} = {{ ... }}") };
        self.wrong_type(field, value, "a table", format!("write `{whole}`"));
        None
    }

    /// A list of tables, at most `most`; empty where there are none.
    pub(crate) fn sections(&mut self, field: &'static str, what: &'static str, most: usize) -> Vec<Self> {
        let Some(value) = self.value(field) else { return Vec::new() };
        let whole = if self.what == "the file" { format!("[[{field}]]") } else { format!("{field} = [{{ ... }}]") };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(field, value, "a list of tables", format!("write `{whole}`"));
            return Vec::new();
        };
        if list.is_empty() {
            let problem = format!("`{field}` in {} is empty", self.what);
            self.problems.add(value.span().start, problem, "fill it in or leave the field out");
        }
        if list.len() > most {
            let problem = format!("{} has {} `{field}`", self.what, list.len());
            self.problems.add(value.span().start, problem, format!("keep to {most}"));
        }
        let mut sections = Vec::with_capacity(list.len());
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(fields) => sections.push(self.of(what, item.span().start, fields)),
                None => self.wrong_type(field, item, "a table", format!("write `{whole}`")),
            }
        }
        sections
    }

    /// Ends the reading: what has not been asked for is unknown.
    pub(crate) fn finish(self) {
        for name in self.fields.keys().filter(|name| !self.asked.iter().any(|asked| asked == name.get_ref())) {
            let problem = format!("unknown field `{}` in {}", name.get_ref(), self.what);
            let known = self.asked.iter().map(AsRef::as_ref);
            self.problems.add(name.span().start, problem, suggestion(name.get_ref(), known));
        }
    }

    fn of(&self, what: &'static str, at: usize, fields: &'a DeTable<'a>) -> Self {
        Self { what, at, problems: self.problems, fields, environment: self.environment, asked: Vec::new() }
    }

    fn value(&mut self, field: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(field.into());
        self.fields.get(field)
    }

    fn as_text(&self, field: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Spanned<&'a str>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => {
                let problem = format!("`{field}` in {} is empty", self.what);
                self.problems.add(value.span().start, problem, "fill it in or leave the field out");
                None
            }
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
            _ => {
                self.wrong_type(field, value, "text", "write it in quotes".to_owned());
                None
            }
        }
    }

    /// The names of environment variables: one, or a list of which the first that is set counts.
    pub(crate) fn variables(&mut self, field: &str) -> Vec<Spanned<&'a str>> {
        self.asked.push(field.to_owned().into());
        let Some(value) = self.fields.get(field) else { return Vec::new() };
        let names: Vec<Spanned<&'a str>> = match value.get_ref().as_array() {
            Some(list) => list.iter().filter_map(|item| self.as_text(field, item)).collect(),
            None => self.as_text(field, value).into_iter().collect(),
        };
        let spelled = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        let is_name = |name: &str| name.chars().all(spelled) && !name.starts_with(|first: char| first.is_ascii_digit());
        for wrong in names.iter().filter(|name| !is_name(name.get_ref())) {
            // It is not repeated, since it may be the secret itself.
            let remedy =
                format!("it is the variable's name in capitals, as in `{field} = \"STRIPE_KEY\"`, never what it holds");
            let problem = format!("`{field}` is not the name of an environment variable");
            self.problems.add(wrong.span().start, problem, remedy);
        }
        names.into_iter().filter(|name| is_name(name.get_ref())).collect()
    }

    /// The value of the first of these variables that is set, and its name.
    pub(crate) fn first_set(&self, names: &[Spanned<&'a str>]) -> Option<(Spanned<&'a str>, String)> {
        names.iter().find_map(|name| {
            let value = (self.environment)(name.get_ref()).map(|value| value.trim().to_owned());
            Some((name.clone(), value.filter(|value| !value.is_empty())?))
        })
    }

    /// The number that an environment variable says instead of the file, where `FIELD_env` names one that is set.
    pub(crate) fn own_number<T>(&mut self, field: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let companion = format!("{field}_env");
        if !self.has(&companion) {
            return None;
        }
        let names = self.variables(&companion);
        let (name, value) = self.first_set(&names)?;
        let number = parse(&value);
        if number.is_none() {
            let problem = format!("the environment variable `{}` is no number that `{field}` can be", name.get_ref());
            self.problems.add(name.span().start, problem, "put a plain number into it, or take it out");
        }
        number
    }

    /// A decimal number as text or a whole number; a float is refused, because most decimal fractions are none.
    fn as_decimal<T: FromStr<Err = AmountError>>(
        &self,
        field: &str,
        value: &'a Spanned<DeValue<'a>>,
        too_precise: &str,
        out_of_range: &str,
    ) -> Option<Spanned<T>> {
        let text = match value.get_ref() {
            DeValue::String(_) => self.as_text(field, value)?.into_inner(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => {
                let remedy = format!("write it as text, which is exact: `{field} = \"{}\"`", float.as_str());
                self.wrong_type(field, value, "decimal text", remedy);
                return None;
            }
            _ => {
                self.wrong_type(field, value, "decimal text", format!("write it like `{field} = \"0.25\"`"));
                return None;
            }
        };
        let error = match text.parse() {
            Ok(amount) => return Some(Spanned::new(value.span(), amount)),
            Err(error) => error,
        };
        let remedy = match error {
            AmountError::NotANumber => format!("write it like `{field} = \"0.25\"`"),
            AmountError::TooPrecise => too_precise.to_owned(),
            AmountError::OutOfRange => out_of_range.to_owned(),
        };
        self.problems.add(value.span().start, format!("`{text}`, the {field} in {}, {error}", self.what), remedy);
        None
    }

    fn wrong_type(&self, field: &str, value: &Spanned<DeValue<'_>>, wanted: &str, remedy: String) {
        let found = match value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a floating-point number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let problem = format!("`{field}` in {} is {found}, not {wanted}", self.what);
        self.problems.add(value.span().start, problem, remedy);
    }
}
