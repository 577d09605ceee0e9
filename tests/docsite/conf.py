# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the docsite of what antsibull-docs has written (tests/run.py docsite)."""

project = title = html_short_title = "fpga.hybrid"
copyright = "The fpga.hybrid maintainers"  # noqa: A001 (Sphinx' name)
extensions = ["sphinx_antsibull_ext"]
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
html_use_index = html_copy_source = False
# A reference that leads nowhere fails the build, but for those that lead out of the collection: they are looked up on the Internet.
nitpicky = True
nitpick_ignore_regex = [("std:ref", r"(?!ansible_collections\.fpga\.hybrid\.).*"), ("envvar", r"ANSIBLE_CACHE_.*")]
