from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0007_keeping'),
    ]

    operations = [
        migrations.AddField(
            model_name='layer',
            name='index',
            field=models.BinaryField(help_text='links, large files and devices in it; without it the layer is read again', null=True),
        ),
    ]
