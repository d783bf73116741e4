"""Who delays whom: healthy receivers beside dead, silent and crawling ones, by ratios."""
