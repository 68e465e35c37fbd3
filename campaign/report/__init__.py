"""What a campaign's reader sees: `python3 -m campaign.report FOLDER`.

Here: report.html, results.csv and results.json of a campaign, and what became better or worse since
another one. It draws and says what `campaign.statistics` has found, with loadgen's plots and pages.
"""
