using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Sessions.Api.Domain;

namespace Sessions.Api.Http;

/// <summary>
/// The fields at the top of a request body. Other fields are ignored, as a client may send more than this server knows; but one that is
/// almost a known one, where that is absent, is a mistake: ignored, it would be answered as if it had not been said.
/// </summary>
internal sealed partial class KnownFields
{
    private const int MaxLogged = 8;

    // Of what is longer the rest is of no interest.
    private const int MaxNameBytes = 128;

    private readonly string[] _names;
    private readonly byte[][] _utf8;

    /// <summary>Those of a type. One that collects all other fields says itself what becomes of them.</summary>
    public KnownFields(JsonTypeInfo type)
    {
        _names = type.Properties.Any(property => property.IsExtensionData) ? [] : [.. type.Properties.Select(property => property.Name)];
        _utf8 = [.. _names.Select(Encoding.UTF8.GetBytes)];
    }

    /// <summary>Looks through a body that is known to be valid JSON.</summary>
    /// <exception cref="ProblemException">A field is almost a known one.</exception>
    public void Check(in ReadOnlySequence<byte> body, HttpContext context)
    {
        var reader = new Utf8JsonReader(body, new JsonReaderOptions { MaxDepth = ApiJson.MaxRequestDepth });
        if (_names.Length == 0 || !reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            return;
        }

        var present = 0UL;
        var unknown = 0;
        var endpoint = context.GetEndpoint();
        List<(string Name, int Known)>? almost = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var known = Find(reader);
            if (known >= 0)
            {
                present |= 1UL << known;
            }
            else
            {
                var name = Name(reader);
                if (Array.FindIndex(_names, candidate => FieldNames.AreAlike(name, candidate)) is var meant and >= 0
                    && almost?.Count is not > MaxLogged)
                {
                    (almost ??= []).Add((name, meant));
                }

                var logger = context.RequestServices.GetRequiredService<ILogger<KnownFields>>();
                if (++unknown <= MaxLogged && logger.IsEnabled(LogLevel.Debug))
                {
                    Log.Ignored(logger, endpoint, name);
                }
            }

            reader.Skip();
        }

        foreach (var (name, meant) in almost ?? [])
        {
            if ((present & (1UL << meant)) == 0)
            {
                throw new DomainException(FieldNames.Misspelt(name, _names[meant]));
            }
        }
    }

    private int Find(in Utf8JsonReader reader)
    {
        for (var i = 0; i < _utf8.Length; i++)
        {
            if (reader.ValueTextEquals(_utf8[i]))
            {
                return i;
            }
        }

        return -1;
    }

    // As it was sent, escapes and all: so there is no control character in it.
    private static string Name(in Utf8JsonReader reader)
    {
        var bytes = reader.HasValueSequence
            ? reader.ValueSequence.Slice(0, Math.Min(reader.ValueSequence.Length, MaxNameBytes)).ToArray()
            : reader.ValueSpan;
        return Encoding.UTF8.GetString(bytes.Length > MaxNameBytes ? bytes[..MaxNameBytes] : bytes);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 4, Level = LogLevel.Debug, Message = "{Endpoint}: the field {Field} is not known, and ignored")]
        public static partial void Ignored(ILogger logger, Endpoint? endpoint, string field);
    }
}
