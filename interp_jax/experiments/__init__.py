"""Where the parts meet: from a config file to results on disk and a report."""
