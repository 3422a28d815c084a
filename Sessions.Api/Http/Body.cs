using System.Buffers;
using System.IO.Pipelines;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.Net.Http.Headers;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>
/// A JSON request body. The framework's own binding would answer a mistake with a bare 400; this one says which field breaks which
/// rule. An absent body, or null, is an empty object: what is required is checked where it is used.
/// </summary>
/// <param name="Value">What the body says.</param>
/// <param name="Length">How many bytes it had.</param>
internal sealed record Body<T>(T Value, long Length) : IBindableFromHttpContext<Body<T>>, IEndpointParameterMetadataProvider
    where T : class, new()
{
    private static readonly JsonTypeInfo<T> Type = (JsonTypeInfo<T>)ApiJson.Wire.GetTypeInfo(typeof(T))!;

    private static readonly KnownFields Fields = new(Type);

    private static Problem NotUtf8 => new(StatusCodes.Status415UnsupportedMediaType, "unsupported_media_type", "Send the JSON in UTF-8.");

    public static async ValueTask<Body<T>?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        var request = context.Request;
        var limits = context.RequestServices.GetRequiredService<LimitSettings>();
        var budget = context.RequestServices.GetRequiredService<BodyBudget>();
        var takesContent = context.GetEndpoint()?.Metadata.GetMetadata<ContentBody>() is not null;
        var most = takesContent ? limits.ContentBytes : limits.RequestBodyBytes;
        if (request.ContentLength > most)
        {
            throw TooLarge(most, takesContent);
        }

        var reader = request.BodyReader;
        ITimer? patience = null;
        long inTime = limits.RequestBodyBytes;
        SequencePosition? examined = null;
        try
        {
            while (true)
            {
                ReadResult read;
                try
                {
                    read = await reader.ReadAsync(context.RequestAborted);
                }
                catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
                {
                    throw TooLarge(most, takesContent);
                }
                catch (IOException e)
                {
                    // It breaks off, or has a chunk whose length is no number (which the framework throws without a status); or the
                    // client has gone.
                    EndReading(reader, examined);
                    var status = (e as BadHttpRequestException)?.StatusCode ?? StatusCodes.Status400BadRequest;
                    throw new ProblemException(Problem.FromStatus(status) with { ClosesConnection = true });
                }

                var arrived = read.Buffer.Length;
                if (arrived > most)
                {
                    reader.AdvanceTo(read.Buffer.End);
                    throw TooLarge(most, takesContent);
                }

                try
                {
                    budget.Count(context, arrived);
                }
                catch (ProblemException)
                {
                    reader.AdvanceTo(read.Buffer.End);
                    throw;
                }

                if (read.IsCompleted)
                {
                    try
                    {
                        return new(Parse(context, read.Buffer), arrived);
                    }
                    finally
                    {
                        reader.AdvanceTo(read.Buffer.End);
                    }
                }

                if (read.IsCanceled)
                {
                    reader.AdvanceTo(read.Buffer.End);
                    throw new ProblemException(Problem.FromStatus(StatusCodes.Status408RequestTimeout));
                }

                reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
                examined = read.Buffer.End;

                // Most bodies are there at once. One that is not has so much time: Kestrel alone would be content with a few bytes a
                // second.
                var time = TimeSpan.FromSeconds(limits.ReceiveSeconds);
                patience ??= context.RequestServices.GetRequiredService<TimeProvider>().CreateTimer(
                    late => ((PipeReader)late!).CancelPendingRead(), reader, time, Timeout.InfiniteTimeSpan);

                // And as much again for each further piece as large as an ordinary body may be.
                if (arrived >= inTime)
                {
                    inTime = arrived + limits.RequestBodyBytes;
                    patience.Change(time, Timeout.InfiniteTimeSpan);
                }
            }
        }
        finally
        {
            patience?.Dispose();
        }
    }

    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder) =>
        builder.Metadata.Add(new AcceptsMetadata(["application/json"], typeof(T), isOptional: true));

    // Kestrel's reader of a body with a length is still reading after a read that failed behind one that consumed nothing, and the
    // connection's end would then be logged as a fault of its own. Its other readers are not.
    private static void EndReading(PipeReader reader, SequencePosition? examined)
    {
        try
        {
            if (examined is { } position)
            {
                reader.AdvanceTo(position);
            }
        }
        catch (InvalidOperationException)
        {
            // It was not reading.
        }
    }

    private static T Parse(HttpContext context, in ReadOnlySequence<byte> body)
    {
        if (body.IsEmpty)
        {
            return new T();
        }

        var request = context.Request;
        if (request.Headers.ContentEncoding is { Count: > 0 } encoding && encoding is not ["identity"] and not [""])
        {
            throw new ProblemException(new Problem(StatusCodes.Status415UnsupportedMediaType, "unsupported_media_type",
                "Send the body as it is, without a Content-Encoding.")
            { AcceptEncoding = "identity" });
        }

        if (!request.HasJsonContentType())
        {
            throw new ProblemException(Problem.FromStatus(StatusCodes.Status415UnsupportedMediaType));
        }

        try
        {
            var reader = new Utf8JsonReader(body, new JsonReaderOptions { MaxDepth = ApiJson.MaxRequestDepth });
            var value = JsonSerializer.Deserialize(ref reader, Type);
            while (reader.Read())
            {
                // Only white space may follow; the reader throws at anything else.
            }

            Fields.Check(body, context);
            return value ?? new T();
        }
        catch (JsonException e)
        {
            throw new ProblemException(IsOtherCharset(request) ? NotUtf8 : Describe(e, Type));
        }
    }

    private static Problem Describe(JsonException e, JsonTypeInfo type)
    {
        // A fault of the JSON itself has the reader's exception within; otherwise the field is of the wrong type, or there twice.
        var field = e.Path is ['$', '.', .. var path] ? path.Split('.', '[')[0] : null;
        if (e.InnerException is not JsonException && type.Properties.FirstOrDefault(property => property.Name == field) is { } known)
        {
            return Problem.From(Error.InvalidField(known.Name, $"must be {Kind(known.PropertyType)}, given once"));
        }

        if (e.Path == "$" && e.InnerException is not JsonException)
        {
            return Problem.From(Error.InvalidField("body", "must be a JSON object"));
        }

        return new Problem(StatusCodes.Status400BadRequest, "invalid_json",
            $"The body is not valid JSON, or nests more than {ApiJson.MaxRequestDepth} levels deep, "
            + $"at line {e.LineNumber + 1}, byte {e.BytePositionInLine + 1}.");
    }

    private static string Kind(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(string) || type == typeof(Utf8Text) ? "a text (valid Unicode)"
            : type == typeof(int) || type == typeof(long) ? "a whole number"
            : type == typeof(bool) ? "true or false"
            : "a JSON object";
    }

    // JSON is UTF-8, and what a charset says has no meaning: most that is sent with another one is ASCII, which is UTF-8 too.
    private static bool IsOtherCharset(HttpRequest request) =>
        MediaTypeHeaderValue.TryParse(request.ContentType, out var type) && type.Charset is { Length: > 0 } charset
        && !charset.Equals("utf-8", StringComparison.OrdinalIgnoreCase) && !charset.Equals("\"utf-8\"", StringComparison.OrdinalIgnoreCase);

    private static ProblemException TooLarge(long bytes, bool isContent) =>
        new(Problem.TooLarge(bytes, isContent ? "limits.content_bytes" : "limits.request_body_bytes"));
}
