"""Learning: DSAC-T, offline learners, export. The only room that uses torch."""
