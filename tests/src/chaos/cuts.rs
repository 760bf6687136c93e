//! Less of a run: what a failing seed is shrunk by, until hardly anything is left but the failure.

use std::collections::BTreeSet;
use std::fmt;

use crate::chaos::plan::Plan;
use crate::sim::ms;

/// What to leave out of the run of a seed. The rest is drawn as ever, so most of it stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Only these faults, counted from 0 in the order in which they are drawn.
    pub faults: Option<BTreeSet<u32>>,
    /// At most so many clients of lists.
    pub lists: Option<usize>,
    /// At most so many clients of shared keys.
    pub shared: Option<usize>,
    /// At most so many milliseconds of chaos.
    pub chaos_ms: Option<u64>,
    /// At most so many faults after that.
    pub tail: Option<u32>,
}

impl Cuts {
    /// The plan with all of that left out, but for the faults.
    #[must_use]
    pub fn apply(&self, mut plan: Plan) -> Plan {
        plan.lists = plan.lists.min(self.lists.unwrap_or(usize::MAX));
        plan.shared = plan.shared.min(self.shared.unwrap_or(usize::MAX));
        plan.chaos = plan.chaos.min(self.chaos_ms.map_or(plan.chaos, ms));
        plan.tail = plan.tail.min(self.tail.unwrap_or(u32::MAX));
        plan
    }

    /// Whether fault number `number` is carried out.
    #[must_use]
    pub fn keeps(&self, number: u32) -> bool {
        self.faults.as_ref().is_none_or(|faults| faults.contains(&number))
    }
}

/// As the flags of `sim`.
impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            ("lists", self.lists.map(|n| n.to_string())),
            ("shared", self.shared.map(|n| n.to_string())),
            ("chaos-ms", self.chaos_ms.map(|n| n.to_string())),
            ("tail", self.tail.map(|n| n.to_string())),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                write!(f, " --{name} {value}")?;
            }
        }
        if let Some(faults) = &self.faults {
            let numbers: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers.join(",") };
            write!(f, " --faults {numbers}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_unless_it_is_said() {
        let plan = Plan::draw(3);
        let cut = Cuts::default().apply(plan.clone());
        assert_eq!(format!("{plan:?}"), format!("{cut:?}"));
        assert!(Cuts::default().keeps(17));
        assert_eq!(Cuts::default().to_string(), "");
    }

    #[test]
    fn cuts_read_as_flags() {
        let mut cuts = Cuts { shared: Some(1), chaos_ms: Some(200), ..Cuts::default() };
        cuts.faults = Some([3, 9].into());
        assert_eq!(cuts.to_string(), " --shared 1 --chaos-ms 200 --faults 3,9");
        assert!(cuts.keeps(9) && !cuts.keeps(4));
        cuts.faults = Some(BTreeSet::new());
        assert!(cuts.to_string().ends_with(" --faults none"));
        let plan = cuts.apply(Plan::draw(3));
        assert!(plan.shared <= 1 && plan.chaos <= ms(200));
    }
}
