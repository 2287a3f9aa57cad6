from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0006_attachments'),
    ]

    operations = [
        migrations.AddField(
            model_name='release',
            name='removed_at',
            field=models.DateTimeField(blank=True, help_text='when its image was removed; the release stays, because runs name it', null=True),
        ),
        migrations.AlterField(
            model_name='release',
            name='reasons',
            field=models.JSONField(default=list, help_text='sentences: why it was refused or removed'),
        ),
        migrations.AlterField(
            model_name='release',
            name='state',
            field=models.CharField(choices=[('valid', 'Valid'), ('refused', 'Refused'), ('removed', 'Removed')], max_length=7),
        ),
        migrations.AddConstraint(
            model_name='release',
            constraint=models.CheckConstraint(condition=Q(state='removed', removed_at__isnull=False) | ~Q(state='removed') & Q(removed_at__isnull=True), name='release_removed_exactly_with_time'),
        ),
    ]
