# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The first tables.

``if_not_exists``, because several workers may start at once, and because in
MySQL and MariaDB what a killed worker had made so far stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

ASCII = {"charset": "ascii", "collation": "ascii_bin"}


def upgrade() -> None:
    base_id = (
        sa.String(36)
        .with_variant(mysql.VARCHAR(36, **ASCII), "mysql", "mariadb")
        .with_variant(sa.String(36, collation="C"), "postgresql")
    )
    text = sa.Text().with_variant(mysql.LONGTEXT(**ASCII), "mysql", "mariadb")
    blob = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
    op.create_table(
        "bridge_pieces",
        sa.Column("base_id", base_id, primary_key=True),
        sa.Column(
            "digest", sa.BigInteger, primary_key=True, autoincrement=False
        ),
        sa.Column("summary", text, nullable=False),
        sa.Column("notifications", blob, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "bridge_index",
        sa.Column(
            "term", sa.BigInteger, primary_key=True, autoincrement=False
        ),
        sa.Column(
            "started", sa.BigInteger, primary_key=True, autoincrement=False
        ),
        sa.Column("base_id", base_id, primary_key=True),
        if_not_exists=True,
    )
