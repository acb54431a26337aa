"""The parts of a session, one for each subject: `teak.desktop_push`, `teak.email`, `teak.exclusions` and more."""
