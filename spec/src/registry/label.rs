//! Groups of clauses and the labels of clauses.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, quoted};

/// A group of clauses: one stage of the layer, or what belongs to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "`stage` says what each code stands for")]
pub enum Group {
    Prj,
    Scr,
    Sel,
    Rd,
    Out,
    Mem,
    Adr,
    Chk,
    Str,
    Bat,
    Grd,
    Sta,
    Num,
}

impl Group {
    /// All groups, in the order of the specification.
    pub const ALL: [Self; 13] = [
        Self::Prj,
        Self::Scr,
        Self::Sel,
        Self::Rd,
        Self::Out,
        Self::Mem,
        Self::Adr,
        Self::Chk,
        Self::Str,
        Self::Bat,
        Self::Grd,
        Self::Sta,
        Self::Num,
    ];

    /// The capitals of its labels.
    pub fn code(self) -> &'static str {
        self.names().0
    }

    /// The stage it describes; also the name of that stage's source and test files.
    pub fn stage(self) -> &'static str {
        self.names().1
    }

    /// The group of a code, in capitals.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.code() == code)
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Prj => ("PRJ", "projection"),
            Self::Scr => ("SCR", "score"),
            Self::Sel => ("SEL", "select"),
            Self::Rd => ("RD", "read"),
            Self::Out => ("OUT", "output"),
            Self::Mem => ("MEM", "memorize"),
            Self::Adr => ("ADR", "address"),
            Self::Chk => ("CHK", "chunk"),
            Self::Str => ("STR", "stream"),
            Self::Bat => ("BAT", "batch"),
            Self::Grd => ("GRD", "train"),
            Self::Sta => ("STA", "stats"),
            Self::Num => ("NUM", "numerics"),
        }
    }

    /// All codes, for messages.
    pub(crate) fn codes() -> String {
        Self::ALL.map(Self::code).join(" ")
    }
}

impl fmt::Display for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.code())
    }
}

/// The name of a clause: its group and its number, written MEM-4. Labels sort in the order of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    group: Group,
    number: u32,
}

impl Label {
    /// The group.
    pub fn group(self) -> Group {
        self.group
    }

    /// The number within the group, from 1.
    pub fn number(self) -> u32 {
        self.number
    }
}

impl FromStr for Label {
    type Err = Error;

    /// Reads `MEM-4` in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.split_once('-').and_then(|(code, number)| {
            let group = Group::of_code(&code.to_ascii_uppercase())?;
            let plain = number.starts_with(|digit| matches!(digit, '1'..='9'));
            Some(Self { group, number: number.parse().ok().filter(|_| plain)? })
        });
        parts.ok_or_else(|| Error::BadLabel {
            line: 0,
            expected: format!("a group ({}), a hyphen and a number from 1", Group::codes()),
            found: quoted(text),
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&format!("{}-{}", self.group, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_reads_in_any_case_and_prints_in_capitals() {
        for text in ["MEM-4", "mem-4", "Mem-4"] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), "MEM-4");
        }
        assert_eq!(format!("{:<7}|", "RD-12".parse::<Label>().unwrap()), "RD-12  |");
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for text in
            ["", "MEM", "MEM-", "MEM-0", "MEM-04", "MEM-4a", "MEM-+4", "MEM--4", "MEM-4 ", "XYZ-1", "MEM-99999999999"]
        {
            let error = text.parse::<Label>().unwrap_err();
            assert!(matches!(error, Error::BadLabel { line: 0, .. }), "{text}: {error}");
        }
    }

    #[test]
    fn labels_sort_by_group_in_the_order_of_the_stages_then_by_number() {
        let mut labels: Vec<Label> =
            ["NUM-1", "ADR-1", "MEM-10", "MEM-9", "PRJ-2"].map(|text| text.parse().unwrap()).into();
        labels.sort();
        let sorted: Vec<String> = labels.iter().map(Label::to_string).collect();
        assert_eq!(sorted, ["PRJ-2", "MEM-9", "MEM-10", "ADR-1", "NUM-1"]);
    }

    #[test]
    fn every_group_is_listed_once_and_found_by_its_code() {
        for (index, group) in Group::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, index);
            assert_eq!(Group::of_code(group.code()), Some(group));
        }
        assert_eq!(Group::of_code("mem"), None);
    }
}
