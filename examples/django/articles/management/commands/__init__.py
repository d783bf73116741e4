"""Articles, with webhooks."""
