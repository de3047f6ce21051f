"""Forward-only migrations, in pairs: `pre` runs before the new code, `post` after the old code is gone."""
