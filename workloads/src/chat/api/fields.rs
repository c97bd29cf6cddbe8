//! Reading the members of checked JSON objects into typed fields. `null` is as if the member were not there, unknown
//! members are the caller's to pass over, and of members with the same name the last counts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use annulus_protocols::json::{Members, Value};

/// A field that is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Its name.
    pub field: String,
    /// What it has to be.
    pub expected: &'static str,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has to be {}", self.field, self.expected)
    }
}

impl std::error::Error for Misfit {}

/// Names and their texts, in the order in which the names first came.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A member that is not `null`.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    name: Cow<'a, str>,
    value: Value<'a>,
}

/// The members of an object that are not `null`.
#[derive(Clone, Debug)]
pub struct Fields<'a>(Members<'a>);

impl<'a> Fields<'a> {
    /// Those of `value`, which errors call `name`. It must be of a text that has been checked.
    ///
    /// # Errors
    /// It is no object.
    pub fn of(name: &str, value: Value<'a>) -> Result<Fields<'a>, Misfit> {
        let misfit = || Misfit { field: name.to_owned(), expected: "an object" };
        value.members().map(Fields).ok_or_else(misfit)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (name, value) = self.0.by_ref().find(|(_, value)| !value.is_null())?;
        Some(Field { name, value })
    }
}

impl<'a> Field<'a> {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is called, to be kept.
    pub fn into_name(self) -> Cow<'a, str> {
        self.name
    }

    /// The error that it is something else than `expected`.
    pub fn misfit(&self, expected: &'static str) -> Misfit {
        Misfit { field: self.name.clone().into_owned(), expected }
    }

    /// Its value, whatever it is.
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// A string.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<Cow<'a, str>, Misfit> {
        self.value.string().ok_or_else(|| self.misfit("a string"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is neither.
    pub fn boolean(&self) -> Result<bool, Misfit> {
        self.value.boolean().ok_or_else(|| self.misfit("true or false"))
    }

    /// An integer of that type.
    ///
    /// # Errors
    /// It is none, has a fraction or an exponent, or does not fit.
    pub fn number<N: FromStr>(&self) -> Result<N, Misfit> {
        let parsed = std::str::from_utf8(self.value.raw()).ok().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| self.misfit("an integer in range"))
    }

    /// An object's members.
    ///
    /// # Errors
    /// It is none.
    pub fn fields(&self) -> Result<Fields<'a>, Misfit> {
        Fields::of(&self.name, self.value)
    }

    /// An array.
    ///
    /// # Errors
    /// It is none, or has more than `count_max` elements.
    pub fn elements(&self, count_max: usize) -> Result<Vec<Value<'a>>, Misfit> {
        let elements = self.value.elements().ok_or_else(|| self.misfit("an array"))?;
        let elements: Vec<_> = elements.take(count_max + 1).collect();
        if elements.len() > count_max { Err(self.misfit("shorter")) } else { Ok(elements) }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// It is none, or has more than `count_max`.
    pub fn texts(&self, count_max: usize) -> Result<Vec<Cow<'a, str>>, Misfit> {
        let texts = self.elements(count_max)?.into_iter().map(|element| element.string());
        texts.collect::<Option<_>>().ok_or_else(|| self.misfit("an array of strings"))
    }

    /// An object of strings, each name once.
    ///
    /// # Errors
    /// It is none, or has more than `count_max`.
    pub fn pairs(&self, count_max: usize) -> Result<Pairs<'a>, Misfit> {
        let mut pairs = Pairs::new();
        for field in self.fields()? {
            let value = field.text()?;
            // There are few: see `count_max`.
            match pairs.iter().position(|(name, _)| *name == field.name) {
                Some(at) => pairs[at].1 = value,
                None if pairs.len() == count_max => return Err(self.misfit("smaller")),
                None => pairs.push((field.name, value)),
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::json::validate;

    fn fields(text: &str) -> Vec<Field<'_>> {
        validate(text.as_bytes()).unwrap();
        Fields::of("it", Value::of(text.as_bytes())).unwrap().collect()
    }

    #[test]
    fn nulls_are_absent_and_the_rest_is_typed() {
        let all = fields(
            "{\"a\":null,\"b\":\"x\\n\",\"c\":true,\"d\":-7,\"e\":[\"p\",\"q\"],\"f\":{\"k\":\"v\",\"l\":null,\"k\":\"w\"}}",
        );
        let names: Vec<_> = all.iter().map(Field::name).collect();
        assert_eq!(names, ["b", "c", "d", "e", "f"]);
        assert_eq!(all[0].text().unwrap(), "x\n");
        assert!(all[1].boolean().unwrap());
        assert_eq!(all[2].number::<i32>(), Ok(-7));
        assert!(all[2].number::<u32>().is_err() && all[2].text().is_err());
        assert_eq!(all[3].texts(2).unwrap(), ["p", "q"]);
        assert_eq!(all[3].texts(1).unwrap_err().to_string(), "e has to be shorter");
        assert_eq!(all[4].pairs(1).unwrap(), [("k".into(), "w".into())]);
        assert_eq!(all[4].pairs(0).unwrap_err().to_string(), "f has to be smaller");
        assert!(all[4].elements(9).is_err() && all[3].fields().is_err());
    }

    #[test]
    fn numbers_are_integers() {
        for bad in ["1.0", "1e3", "\"1\"", "4294967296", "true"] {
            let text = format!("{{\"n\":{bad}}}");
            assert!(fields(&text)[0].number::<u32>().is_err(), "{bad}");
        }
        assert_eq!(Fields::of("it", Value::of(b"[]")).unwrap_err().to_string(), "it has to be an object");
    }
}
