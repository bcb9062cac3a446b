//! A plan as something to read before anything runs: plain data for programs, text for terminals, a page for browsers.

mod data;
mod of_plan;
mod page;
mod placed;
mod text;
mod traffic;
mod units;

pub use data::{
    Arrangement, CellReport, CollectiveReport, ContextReport, CopyReport, DeviceBytesReport,
    DeviceReport, Exchange, LayerReport, ModelReport, NoteKind, NoteReport, OpReport, PartReport,
    PlanReport, StepReport, StepTotals, VERSION, WeightReport,
};
pub use of_plan::{DeviceFacts, PlannedStep, ReportFacts, report_of};
pub use text::TextOptions;
