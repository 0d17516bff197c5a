"""Other people's environments, each behind one file that imports its package only when it is used."""
