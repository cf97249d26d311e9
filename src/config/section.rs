//! One table of the file: typed reading of its keys, every problem noted with its place.

use std::fmt::{self, Display};
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::later;
use super::report::{Finding, Sink};
use super::value::{self, Fault, Shown, quote};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// What a table is called in messages: `endpoint "10.1.0.10:80" of service "web"`. A large file has a million of them and, as a rule, no
/// message: so it is made where it is shown.
#[derive(Clone, Debug)]
pub(super) enum Title<'a> {
    /// As it is.
    Text(String),
    /// One of many tables.
    Item {
        /// What they are.
        key: &'static str,
        /// Its name.
        name: Option<&'a str>,
        /// From 1 on.
        number: usize,
        /// The table that they are in.
        of: Option<Rc<Self>>,
    },
}

impl Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Item { key, name, number, of } => {
                match name {
                    Some(name) => write!(f, "{key} {}", quote(name))?,
                    None => write!(f, "{key} {number}")?,
                }
                of.as_ref().map_or(Ok(()), |of| write!(f, " of {of}"))
            }
        }
    }
}

/// One table. Reading a key makes it known; [`Section::finish`] refuses the others.
pub(super) struct Section<'a> {
    /// Where problems go.
    pub sink: &'a Sink,
    table: &'a DeTable<'a>,
    /// Its header.
    pub span: Range<usize>,
    /// Its place in the format: `service.endpoint`; empty for the root.
    path: &'static str,
    /// Its name in messages.
    pub title: Title<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub fn root(sink: &'a Sink, table: &'a DeTable<'a>) -> Self {
        Self {
            sink,
            table,
            span: 0..0,
            path: "",
            title: Title::Text("the file".to_owned()),
            known: Vec::new(),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Notes what is wrong with the value of a key.
    fn fault(&self, key: &str, span: Range<usize>, fault: Fault) {
        let finding = Finding::local(span, format!("`{key}` of {} {}", self.title, fault.message));
        self.sink.push(finding.help(fault.help));
    }

    /// Reads a key, if it is there and well-formed.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<Located<T>> {
        let found = self.take(key)?;
        match parse(found.get_ref()) {
            Ok(value) => Some(Located { value, span: found.span() }),
            Err(fault) => {
                self.fault(key, found.span(), fault);
                None
            }
        }
    }

    /// A key that must be there.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<Located<T>> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            let message = format!("{} has no `{key}`", self.title);
            self.sink
                .push(Finding::cross(self.span.clone(), message).help(format!("add `{key} = {example}`")));
            return None;
        }
        self.read(key, parse)
    }

    /// A text in some form.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<Located<T>> {
        self.read(key, |v| parse(text(v)?))
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, boolean).map_or(default, |l| l.value)
    }

    /// An integer in a range.
    pub fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<Located<T>>
    where
        T: TryFrom<i128> + Copy + Display + Into<i128>,
    {
        self.read(key, |v| integer(v, &range))
    }

    /// A duration in a range.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Located<Duration>> {
        self.parsed(key, |text| {
            let d = value::duration(text)?;
            if range.contains(&d) {
                return Ok(d);
            }
            let (least, most) = (Shown(*range.start()), Shown(*range.end()));
            Err(Fault::new(format!("is {text}, not {least} to {most}"), "write a duration in that range"))
        })
    }

    /// One of several names. What [`later`] knows for this key is refused as not supported yet.
    pub fn choice<T: Copy>(&mut self, key: &'static str, names: &[(&'static str, T)], default: T) -> T {
        self.chosen(key, names).map_or(default, |l| l.value)
    }

    /// As [`Section::choice`], none if absent.
    pub fn chosen<T: Copy>(&mut self, key: &'static str, names: &[(&'static str, T)]) -> Option<Located<T>> {
        self.read(key, |v| choose(text(v)?, names))
    }

    /// A list, each item in some form; items that are malformed are noted and left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&DeValue<'a>) -> Result<T, Fault>,
    ) -> Vec<Located<T>> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = found.get_ref() else {
            let help = if found.get_ref().is_str() { "put it in brackets: [\"…\"]" } else { "" };
            self.fault(key, found.span(), wrong_type(found.get_ref(), "a list", help));
            return Vec::new();
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            match parse(item.get_ref()) {
                Ok(value) => out.push(Located { value, span: item.span() }),
                Err(fault) => self.fault(key, item.span(), fault),
            }
        }
        out
    }

    /// A list of texts in some form.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<Located<T>> {
        self.list(key, |v| parse(text(v)?))
    }

    /// The place of a key's value, whatever it is.
    pub fn place(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span)
    }

    fn child(
        &self,
        path: &'static str,
        title: Title<'a>,
        found: &'a Spanned<DeValue<'a>>,
    ) -> Option<Section<'a>> {
        let table = found.get_ref().as_table()?;
        Some(Section { sink: self.sink, table, span: found.span(), path, title, known: Vec::new() })
    }

    /// A table, `[path]`.
    pub fn table(&mut self, key: &'static str, path: &'static str, title: String) -> Option<Section<'a>> {
        let found = self.take(key)?;
        let child = self.child(path, Title::Text(title), found);
        if child.is_none() {
            let help = format!("write it under the header [{path}], once");
            self.fault(key, found.span(), wrong_type(found.get_ref(), "a table", &help));
        }
        child
    }

    /// As [`Section::table`]; one without keys if it is absent.
    pub fn table_or(&mut self, key: &'static str, empty: &'a DeTable<'a>) -> Section<'a> {
        let title = format!("[{key}]");
        let absent = Section {
            sink: self.sink,
            table: empty,
            span: 0..0,
            path: key,
            title: Title::Text(title.clone()),
            known: Vec::new(),
        };
        self.table(key, key, title).unwrap_or(absent)
    }

    /// The tables of an array of tables, `[[path]]`, called after their value of `name` or else by their number.
    pub fn tables(&mut self, key: &'static str, path: &'static str, name: &str) -> Vec<Section<'a>> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let help = format!("write each one under a header [[{path}]], with double brackets");
        let DeValue::Array(items) = found.get_ref() else {
            self.fault(key, found.span(), wrong_type(found.get_ref(), "a list of tables", &help));
            return Vec::new();
        };
        let of = (!self.path.is_empty()).then(|| Rc::new(self.title.clone()));
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let own = item.get_ref().as_table().and_then(|t| t.get(name)).and_then(|v| v.get_ref().as_str());
            let name = own.filter(|name| !name.is_empty());
            let title = Title::Item { key, name, number: i + 1, of: of.clone() };
            match self.child(path, title, item) {
                Some(section) => out.push(section),
                None => self.fault(key, item.span(), wrong_type(item.get_ref(), "a list of tables", &help)),
            }
        }
        out
    }

    /// Refuses what is not supported yet and what is not known.
    pub fn finish(mut self) {
        for entry in later::of(self.path) {
            if !self.known.contains(&entry.key) {
                self.later(entry);
            }
        }
        let place = if self.path.is_empty() { String::new() } else { format!(" in {}", self.title) };
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let help = match value::nearest(name, self.known.iter().copied()) {
                Some((near, true)) => format!("did you mean `{near}`?"),
                Some((near, false)) => {
                    format!("the nearest known key is `{near}`; known here: {}", self.known.join(", "))
                }
                None => String::new(),
            };
            let message = format!("unknown key {}{place}", backquote(name));
            self.sink.push(Finding::local(key.span(), message).help(help));
        }
    }

    /// Checks the form of a key of a later release, and refuses it where it asks for something.
    fn later(&mut self, entry: &'static later::Later) {
        let key = entry.key;
        let asks = match entry.kind {
            later::Kind::Tables(path, name) => {
                let items = self.tables(key, path, name);
                let any = !items.is_empty();
                items.into_iter().for_each(Section::finish);
                any
            }
            later::Kind::List(check) => {
                self.texts(key, check);
                let listed = self.table.get(key).and_then(|v| v.get_ref().as_array());
                listed.is_some_and(|items| !items.is_empty())
            }
            later::Kind::Value(check) => self.read(key, check).is_some_and(|l| l.value),
        };
        let span = match self.place(key) {
            Some(span) if asks => span,
            None if entry.on_when_absent => self.span.clone(),
            _ => return,
        };
        if entry.passive {
            return;
        }
        let help = match entry.off {
            "" => "remove it".to_owned(),
            off => format!("remove it, or write `{key} = {off}`"),
        };
        let message = format!("`{key}` of {} is not supported yet", self.title);
        self.sink.push(Finding::local(span, message).help(if entry.on_when_absent {
            format!("write `{key} = {}`, or remove the table", entry.off)
        } else {
            help
        }));
    }
}

fn backquote(name: &str) -> String {
    let quoted = quote(name);
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') && !name.is_empty();
    if plain { format!("`{}`", quoted.replace('"', "")) } else { quoted }
}

fn wrong_type(found: &DeValue<'_>, wanted: &str, help: &str) -> Fault {
    let article = if matches!(found, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    let kind = found.type_str();
    Fault::new(format!("must be {wanted}, but is {article} {kind}"), help)
}

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| wrong_type(value, "a text", "put it in double quotes"))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    let help = if value.is_str() { "leave out the quotes" } else { "" };
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false", help))
}

/// An integer in a range.
pub(super) fn integer<T>(value: &DeValue<'_>, range: &RangeInclusive<T>) -> Result<T, Fault>
where
    T: TryFrom<i128> + Copy + Display + Into<i128>,
{
    let DeValue::Integer(digits) = value else {
        let help = if value.is_str() { "leave out the quotes" } else { "write a whole number" };
        return Err(wrong_type(value, "an integer", help));
    };
    let (least, most): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
    let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
    let fits = number.filter(|n| (least..=most).contains(n)).and_then(|n| T::try_from(n).ok());
    fits.ok_or_else(|| {
        let shown = number.map_or_else(|| "a number beyond all bounds".to_owned(), |n| n.to_string());
        Fault::new(format!("is {shown}, not {least} to {most}"), "write a number in that range")
    })
}

fn choose<T: Copy>(given: &str, names: &[(&'static str, T)]) -> Result<T, Fault> {
    if let Some(&(_, value)) = names.iter().find(|(name, _)| *name == given) {
        return Ok(value);
    }
    let listed = names.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let help = match value::nearest(given, names.iter().map(|(name, _)| *name)) {
        Some((near, true)) => format!("did you mean \"{near}\"? It may be {listed}"),
        Some((near, false)) => format!("it may be {listed}; the nearest is \"{near}\""),
        None => format!("it may be {listed}"),
    };
    Err(Fault::new(format!("is {}, which is unknown", quote(given)), help))
}
