"""What an intervention is and how it meets a model.

Read in this order: `sites`, `where`, `positions`, `edits`, `readouts`, `interventions`, `model`,
`prompts`, `session`, `steering`, `capture`, `generation`, `preview`, `storage`; for what is
learned `fitting`, `proximal`, `responses`, `answers`, `alignment`.
"""
