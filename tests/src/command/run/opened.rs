//! An input file with or without a case, and the plan that follows from it.

use fwpkm_reference::{Rules, Settings};
use fwpkm_spec::{Case, CaseFile, TensorFile};

use super::Arguments;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::run::Plan;
use crate::settings_file::{SettingsFile, toml_text};
use crate::state_file::Saved;

/// An input file with or without a case.
pub(super) enum Opened {
    Case(Box<CaseFile>),
    Bare(TensorFile, Box<SettingsFile>),
    Resumed(TensorFile),
}

impl Opened {
    pub(super) fn new(arguments: &Arguments, file: TensorFile) -> Result<Self> {
        if let Some(path) = &arguments.settings {
            let origin = path.display().to_string();
            let reason = |e: std::io::Error| Error::File { path: origin.clone(), reason: e.to_string() };
            let text = std::fs::read_to_string(path).map_err(reason)?;
            return Ok(Self::Bare(file, Box::new(toml_text(&origin, &text)?)));
        }
        if arguments.state.is_some() && !file.metadata().contains_key("case") {
            return Ok(Self::Resumed(file));
        }
        Ok(Self::Case(Box::new(CaseFile::of_file(file)?)))
    }

    pub(super) fn inputs(&self) -> Result<Inputs<'_>> {
        match self {
            Self::Case(file) => Inputs::of_case(file),
            Self::Bare(file, _) | Self::Resumed(file) => Inputs::new(file),
        }
    }

    pub(super) fn case(&self) -> Option<&Case> {
        match self {
            Self::Case(file) => Some(&file.case),
            Self::Bare(..) | Self::Resumed(_) => None,
        }
    }

    /// The plan of a state is the state's; where the file has a case as well, the two must agree.
    pub(super) fn plan<S: Element>(
        &self,
        arguments: &Arguments,
        rules: Option<Rules>,
        saved: Option<&Saved<S>>,
        inputs: &Inputs,
    ) -> Result<Plan> {
        let plan = match self {
            Self::Case(file) => Plan::of_case(&file.case, rules.as_ref())?,
            Self::Bare(_, settings) => Plan::of_settings(**settings, rules, &inputs.tables::<S>()?)?,
            Self::Resumed(_) => {
                let state = saved.map(|saved| &saved.state);
                let settings = state.map_or_else(Settings::paper, |state| state.settings.clone());
                Plan::one_call(settings)
            }
        };
        let (Some(saved), Some(path)) = (saved, &arguments.state) else { return Ok(plan) };
        let json = |value: &SettingsFile| serde_json::to_value(value).unwrap_or_default();
        let (ours, theirs) = (json(&(&saved.state.settings).into()), json(&(&plan.settings).into()));
        let differs = |(name, value): (&String, &serde_json::Value)| {
            (theirs[name] != *value).then(|| format!("its setting {name} is {value}, the case has {}", theirs[name]))
        };
        if let Some(reason) = ours.as_object().and_then(|ours| ours.iter().find_map(differs)) {
            return Err(Error::State { path: path.display().to_string(), reason });
        }
        Ok(Plan { rules: saved.state.rules.clone(), ..plan })
    }
}
